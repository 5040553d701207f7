//! The caller of code that no unwind information covers: static musl, hand-written assembly, code made at run time.
//!
//! First by the frame pointer, where that is one; else by a scan of the stack for the address that the current
//! function returns to. Many words of a stack are return addresses of calls that ended long ago. So the scan
//! looks for one behind a direct call *to the current function* (or to one that ends in a jump to it), as far as
//! symbols tell where that begins, and only then for one behind an indirect call. What a scan finds is a guess.

use super::{
    call_site::{self, Call},
    prologue,
};

/// How far up a scan goes. No function of musl's on the way to a system call has a larger frame.
const MAX_SCAN: u64 = 16 << 10;
/// Farthest that a frame pointer may point above the stack pointer.
const MAX_FRAME: u64 = 1 << 20;
/// How much of a function is searched for the jump that it ends in.
const MAX_TAIL: usize = 512;

/// What there is to look at.
pub trait Surroundings {
    /// Eight bytes of the stack.
    fn word(&mut self, address: u64) -> Option<u64>;
    /// Whether code can run there.
    fn is_code(&mut self, address: u64) -> bool;
    /// Whether it is code that was made at run time.
    fn is_made(&mut self, address: u64) -> bool;
    /// Bytes of code; `false` when they cannot be read.
    fn code(&mut self, address: u64, bytes: &mut [u8]) -> bool;
    /// Where the function at an address begins, if symbols tell.
    fn function_start(&mut self, address: u64) -> Option<u64>;
}

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub return_address: u64,
    pub sp: u64,
    pub bp: u64,
    /// Found by the scan.
    pub scanned: bool,
}

/// The caller of the function that `ip` is in. `None` when there is no sign of one.
pub fn caller(ip: u64, sp: u64, bp: u64, around: &mut impl Surroundings) -> Option<Caller> {
    let start = around.function_start(ip);
    let sets_bp = start.is_some_and(|start| sets_frame_pointer(start, ip, around));
    let framed = by_frame_pointer(ip, sp, bp, sets_bp, around);
    // A frame pointer may be that of a function farther out: code without one leaves the register alone.
    if let Some(caller) = framed
        && (sets_bp || start.is_none() || judge(caller.return_address, start, around) == Evidence::CallsUs)
    {
        return framed;
    }
    let limit = match framed {
        Some(caller) => caller.sp - 8,
        None => sp.saturating_add(MAX_SCAN),
    };
    let mut indirect = None;
    let mut at = sp.checked_next_multiple_of(8)?;
    while at < limit.min(sp.saturating_add(MAX_SCAN)) {
        // Where memory ends, so does the stack.
        let Some(word) = around.word(at) else { break };
        match judge(word, start, around) {
            Evidence::CallsUs => {
                indirect = Some((word, at));
                break;
            }
            Evidence::Indirect if indirect.is_none() && framed.is_none() => indirect = Some((word, at)),
            Evidence::Indirect | Evidence::None => {}
        }
        at += 8;
    }
    let Some((return_address, at)) = indirect else {
        return framed;
    };
    Some(Caller {
        return_address,
        sp: at + 8,
        bp: start.and_then(|start| saved_bp(start, at, around)).unwrap_or(bp),
        scanned: true,
    })
}

/// Whether a function has made itself a frame pointer before it came to `ip`.
fn sets_frame_pointer(start: u64, ip: u64, around: &mut impl Surroundings) -> bool {
    let mut code = [0; prologue::LENGTH];
    let done = ip.saturating_sub(start).min(prologue::LENGTH as u64) as usize;
    around.code(start, &mut code) && prologue::sets_bp(code.get(..done).unwrap_or_default())
}

/// The caller's frame pointer, where the function begins by pushing it. `at` is where its return address lies.
fn saved_bp(start: u64, at: u64, around: &mut impl Surroundings) -> Option<u64> {
    let mut code = [0; prologue::LENGTH];
    let push = around
        .code(start, &mut code)
        .then(|| prologue::push_of_bp(&code))??;
    around.word(at.checked_sub(push * 8)?)
}

/// `push %rbp; mov %rsp, %rbp` at the function's beginning: the caller's frame pointer lies where ours points to,
/// the return address above it.
fn by_frame_pointer(
    ip: u64,
    sp: u64,
    bp: u64,
    is_set: bool,
    around: &mut impl Surroundings,
) -> Option<Caller> {
    if bp < sp || bp - sp > MAX_FRAME || !bp.is_multiple_of(8) {
        return None;
    }
    let next = around.word(bp)?;
    let return_address = around.word(bp.checked_add(8)?)?;
    // What a function has that does not use it as one is anything.
    let leads_up = next == 0 || next > bp;
    if !(leads_up || is_set) || !around.is_code(return_address) {
        return None;
    }
    // Java's interpreter and others like it push addresses that they mean to be returned to, without a call.
    let pushed = around.is_made(return_address) || around.is_made(ip);
    if !pushed && calls(return_address, around).iter().all(Option::is_none) {
        return None;
    }
    Some(Caller {
        return_address,
        sp: bp.checked_add(16)?,
        bp: next,
        scanned: false,
    })
}

#[derive(PartialEq)]
enum Evidence {
    None,
    Indirect,
    CallsUs,
}

fn judge(word: u64, start: Option<u64>, around: &mut impl Surroundings) -> Evidence {
    if !around.is_code(word) {
        return Evidence::None;
    }
    let mut best = Evidence::None;
    for call in calls(word, around).into_iter().flatten() {
        match (call, start) {
            (Call::To(target), Some(start)) if target == start || jumps_to(target, start, around) => {
                return Evidence::CallsUs;
            }
            // A stub of the procedure linkage table goes anywhere, and so does a direct call where no symbol
            // tells what we are in.
            (Call::To(target), Some(_)) if is_stub(target, around) => best = Evidence::Indirect,
            (Call::To(target), None) if around.is_code(target) => best = Evidence::Indirect,
            (Call::To(_), _) => {}
            (Call::Through, _) => best = Evidence::Indirect,
        }
    }
    best
}

fn calls(return_address: u64, around: &mut impl Surroundings) -> [Option<Call>; 2] {
    let mut bytes = [0; call_site::LONGEST];
    let Some(from) = return_address.checked_sub(call_site::LONGEST as u64) else {
        return [None; 2];
    };
    if !around.code(from, &mut bytes) {
        return [None; 2];
    }
    let [direct, indirect] = call_site::before(return_address, &bytes);
    let direct = direct.filter(|call| matches!(call, Call::To(target) if around.is_code(*target)));
    [direct, indirect]
}

/// Whether the function ends in a jump to the other: then it is not on the stack any more.
fn jumps_to(function: u64, start: u64, around: &mut impl Surroundings) -> bool {
    let mut bytes = [0; MAX_TAIL];
    // The function may lie at the very end of what is mapped or in memory.
    let Some(length) = [MAX_TAIL, MAX_TAIL / 8].into_iter().find(|length| {
        bytes
            .get_mut(..*length)
            .is_some_and(|part| around.code(function, part))
    }) else {
        return false;
    };
    (0..length.saturating_sub(4)).any(|at| {
        let Some([0xe9, a, b, c, d]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            return false;
        };
        let distance = i32::from_le_bytes([*a, *b, *c, *d]);
        let next = function.wrapping_add(at as u64 + 5);
        next.wrapping_add_signed(distance.into()) == start
            // And the jump is in that function, not in one behind it.
            && around.function_start(function.wrapping_add(at as u64)) == Some(function)
    })
}

/// `jmp *x(%rip)`, after `endbr64` and the prefix `bnd` where there are any.
fn is_stub(target: u64, around: &mut impl Surroundings) -> bool {
    let mut bytes = [0; 8];
    if !around.code(target, &mut bytes) {
        return false;
    }
    let code = bytes.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(&bytes);
    let code = code.strip_prefix(&[0xf2]).unwrap_or(code);
    code.starts_with(&[0xff, 0x25])
}

#[cfg(test)]
mod tests;
