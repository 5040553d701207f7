//! The seccomp filter that a command is started below: it asks us about `exit_group`, and allows everything else.
//! (include/uapi/linux/seccomp.h, Linux 5.5 for `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.)

use std::{
    io,
    mem::{MaybeUninit, offset_of},
    os::{
        fd::{AsFd as _, FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// include/uapi/linux/audit.h.
const ARCH_X86_64: u32 = 0xc000_003e;
const ARCH_I386: u32 = 0x4000_0003;
/// arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl.
const EXIT_GROUP: u32 = 231;
const EXIT_GROUP_32: u32 = 252;

/// What the child says: 0, with the listener, or why there is none.
pub type Word = [u8; 4];

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const ARCH: u32 = offset_of!(libc::seccomp_data, arch) as u32;
const NUMBER: u32 = offset_of!(libc::seccomp_data, nr) as u32;

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

const FILTER: [libc::sock_filter; 9] = [
    step(LOAD, 0, 0, ARCH),
    step(EQUALS, 0, 2, ARCH_X86_64),
    step(LOAD, 0, 0, NUMBER),
    step(EQUALS, 4, 3, EXIT_GROUP),
    step(EQUALS, 0, 2, ARCH_I386),
    step(LOAD, 0, 0, NUMBER),
    step(EQUALS, 1, 0, EXIT_GROUP_32),
    step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
];

/// In the child, between fork and exec: puts the filter in, and passes what it is answered through to the parent.
///
/// # Errors
/// When there can be no filter, or the parent is gone. The parent is told why.
pub fn install_and_tell(parent: &UnixStream) -> io::Result<()> {
    // SAFETY: a plain number. When we end, the command could not end by itself any more.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let installed = install();
    let (word, listener) = match &installed {
        Ok(listener) => (0, Some(listener.as_fd())),
        Err(error) => (error.raw_os_error().unwrap_or(libc::EINVAL), None),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights: Option<[_; 1]> = listener.map(|listener| [listener]);
    if let Some(rights) = &rights {
        control.push(SendAncillaryMessage::ScmRights(rights));
    }
    let word: Word = word.to_ne_bytes();
    sendmsg(
        parent,
        &[io::IoSlice::new(&word)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    installed.map(drop)
}

fn install() -> io::Result<OwnedFd> {
    // The wait is then ended by nothing but the command's death, not by each signal (Linux 5.19).
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let installed = match seccomp(flags) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            // Without CAP_SYS_ADMIN only programs may be filtered that gain no privileges by an exec.
            // SAFETY: plain numbers.
            if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
            seccomp(flags)
        }
        installed => installed,
    };
    match installed {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            seccomp(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        }
        installed => installed,
    }
}

fn seccomp(flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: FILTER.len() as u16,
        filter: FILTER.as_ptr().cast_mut(),
    };
    // SAFETY: the filter is a constant, which the kernel copies.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was made just now, and nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as i32) })
}
