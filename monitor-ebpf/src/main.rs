//! taskleak's kernel side: one file a probe family, loaded by `monitor/src/observe/bpf`.
#![no_std]
#![no_main]
// For the one atomic addition that `core` does not give this target (`maps::add`).
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod futex;
mod go;
mod life;
mod maps;
mod spawn;
mod sweep;
mod task;
mod tokio;
mod tokio_spawn;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier would refuse a program that could come here.
    loop {}
}

/// `bpf_task_pt_regs` and the kernel reads are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
