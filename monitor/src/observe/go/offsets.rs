//! Where the fields of the runtime's structures are, by Go's minor version. From the DWARF of binaries that the
//! released toolchains made (`cargo xtask go-offsets BINARY` prints an entry); the same over the patch releases that
//! were compared. amd64.

/// Offsets in bytes, of `runtime.g` where nothing else is said. 0 is "has no such field".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Size of `runtime.g`.
    pub size: u64,
    pub status: usize,
    pub goid: usize,
    pub wait_since: usize,
    pub wait_reason: usize,
    pub tracking_seq: usize,
    pub gopc: usize,
    pub startpc: usize,
    /// Number of the goroutine that made it; from Go 1.21 on.
    pub parent: usize,
    /// The thread that it is locked to, or null.
    pub locked_m: usize,
    pub m: usize,
    /// `sched`, a `gobuf` that begins with `sp` and `pc`.
    pub sched: usize,
    /// `gobuf.bp`.
    pub gobuf_bp: usize,
    pub syscall_sp: usize,
    pub syscall_pc: usize,
    pub syscall_bp: usize,
    /// `m.procid`: the thread's id, as its own PID namespace numbers it.
    pub procid: u64,
    /// `moduledata.text` and `.gofunc`.
    pub module_text: u64,
    pub module_gofunc: u64,
    /// `internal/poll`'s `runtime.pollDesc`: who waits to read and to write, and until when.
    pub poll_rg: usize,
    pub poll_wg: usize,
    pub poll_rd: usize,
    pub poll_wd: usize,
}

/// Those of `1.MINOR`; `None` for one that nobody has looked into yet.
pub fn of(minor: u32) -> Option<&'static Offsets> {
    let known = TABLE.iter().find(|(versions, _)| versions.contains(&minor));
    known.map(|(_, offsets)| offsets)
}

/// 1.18 and 1.20 were not tried; what a wrong entry reads is found out ([`super::attach`]).
const TABLE: &[(&[u32], Offsets)] = &[
    (
        &[19],
        Offsets {
            size: 392,
            status: 144,
            goid: 152,
            wait_since: 168,
            wait_reason: 176,
            tracking_seq: 189,
            gopc: 296,
            startpc: 312,
            parent: 0,
            locked_m: 232,
            m: 48,
            sched: 56,
            gobuf_bp: 48,
            syscall_sp: 112,
            syscall_pc: 120,
            syscall_bp: 0,
            procid: 72,
            module_text: 176,
            module_gofunc: 304,
            poll_rg: 24,
            poll_wg: 32,
            poll_rd: 136,
            poll_wd: 224,
        },
    ),
    (
        &[21],
        Offsets {
            size: 408,
            status: 144,
            goid: 152,
            wait_since: 168,
            wait_reason: 176,
            tracking_seq: 188,
            gopc: 280,
            startpc: 296,
            parent: 272,
            locked_m: 208,
            m: 48,
            sched: 56,
            gobuf_bp: 48,
            syscall_sp: 112,
            syscall_pc: 120,
            syscall_bp: 0,
            procid: 72,
            module_text: 176,
            module_gofunc: 320,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 144,
            poll_wd: 232,
        },
    ),
    (
        &[22],
        Offsets {
            size: 424,
            status: 144,
            goid: 152,
            wait_since: 168,
            wait_reason: 176,
            tracking_seq: 191,
            gopc: 280,
            startpc: 296,
            parent: 272,
            locked_m: 208,
            m: 48,
            sched: 56,
            gobuf_bp: 48,
            syscall_sp: 112,
            syscall_pc: 120,
            syscall_bp: 0,
            procid: 72,
            module_text: 176,
            module_gofunc: 320,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 144,
            poll_wd: 232,
        },
    ),
    (
        &[23],
        Offsets {
            size: 432,
            status: 152,
            goid: 160,
            wait_since: 176,
            wait_reason: 184,
            tracking_seq: 199,
            gopc: 288,
            startpc: 304,
            parent: 280,
            locked_m: 216,
            m: 48,
            sched: 56,
            gobuf_bp: 48,
            syscall_sp: 112,
            syscall_pc: 120,
            syscall_bp: 128,
            procid: 72,
            module_text: 176,
            module_gofunc: 320,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 160,
            poll_wd: 264,
        },
    ),
    (
        &[24],
        Offsets {
            size: 440,
            status: 152,
            goid: 160,
            wait_since: 176,
            wait_reason: 184,
            tracking_seq: 199,
            gopc: 288,
            startpc: 304,
            parent: 280,
            locked_m: 216,
            m: 48,
            sched: 56,
            gobuf_bp: 48,
            syscall_sp: 112,
            syscall_pc: 120,
            syscall_bp: 128,
            procid: 72,
            module_text: 176,
            module_gofunc: 320,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 160,
            poll_wd: 264,
        },
    ),
    (
        &[25],
        Offsets {
            size: 440,
            status: 144,
            goid: 152,
            wait_since: 168,
            wait_reason: 176,
            tracking_seq: 191,
            gopc: 280,
            startpc: 296,
            parent: 272,
            locked_m: 208,
            m: 48,
            sched: 56,
            gobuf_bp: 40,
            syscall_sp: 104,
            syscall_pc: 112,
            syscall_bp: 120,
            procid: 64,
            module_text: 176,
            module_gofunc: 320,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 168,
            poll_wd: 280,
        },
    ),
    (
        &[26],
        Offsets {
            size: 456,
            status: 144,
            goid: 152,
            wait_since: 168,
            wait_reason: 176,
            tracking_seq: 191,
            gopc: 288,
            startpc: 304,
            parent: 280,
            locked_m: 208,
            m: 48,
            sched: 56,
            gobuf_bp: 40,
            syscall_sp: 104,
            syscall_pc: 112,
            syscall_bp: 120,
            procid: 64,
            module_text: 176,
            module_gofunc: 320,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 168,
            poll_wd: 280,
        },
    ),
    (
        &[27],
        Offsets {
            size: 456,
            status: 144,
            goid: 152,
            wait_since: 168,
            wait_reason: 176,
            tracking_seq: 191,
            gopc: 288,
            startpc: 304,
            parent: 280,
            locked_m: 208,
            m: 48,
            sched: 56,
            gobuf_bp: 40,
            syscall_sp: 104,
            syscall_pc: 112,
            syscall_bp: 120,
            procid: 64,
            module_text: 176,
            module_gofunc: 344,
            poll_rg: 32,
            poll_wg: 40,
            poll_rd: 168,
            poll_wd: 280,
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_one_entry_at_most_and_all_its_fields_lie_in_g() {
        let mut seen = std::collections::HashSet::new();
        for (versions, offsets) in TABLE {
            assert!(versions.iter().all(|version| seen.insert(version)));
            let words = [
                offsets.goid,
                offsets.wait_since,
                offsets.gopc,
                offsets.startpc,
                offsets.m,
                offsets.sched + offsets.gobuf_bp,
                offsets.syscall_sp,
                offsets.syscall_pc,
            ];
            for word in words {
                assert!(word >= 16 && word + 8 <= offsets.size as usize && word.is_multiple_of(8));
            }
        }
        assert!(of(27).is_some() && of(17).is_none() && of(1000).is_none());
    }
}
