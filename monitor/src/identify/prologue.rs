//! What a function without unwind information does with the frame pointer, told by how it begins.

/// How much of a function is looked at.
pub const LENGTH: usize = 48;

/// The how-manieth push of a function is that of `%rbp`, from 1 on; `None` when it begins without one. Pushes may
/// stand between moves from register to register, as compilers mix them.
pub fn push_of_bp(code: &[u8]) -> Option<u64> {
    let mut rest = code;
    let mut pushes = 0;
    loop {
        rest = match rest {
            [0xf3, 0x0f, 0x1e, 0xfa, rest @ ..] => rest, // endbr64
            [0x55, ..] => return Some(pushes + 1),
            [0x50..=0x57, rest @ ..] | [0x41, 0x50..=0x57, rest @ ..] => {
                pushes += 1;
                rest
            }
            // mov, xor, test and cmp between registers, with and without a prefix for size and high registers.
            [
                0x31 | 0x33 | 0x39 | 0x3b | 0x85 | 0x89 | 0x8b,
                0xc0..=0xff,
                rest @ ..,
            ] => rest,
            [
                0x40..=0x4f,
                0x31 | 0x33 | 0x39 | 0x3b | 0x85 | 0x89 | 0x8b,
                0xc0..=0xff,
                rest @ ..,
            ] => rest,
            // mov of four bytes into a register.
            [0xb8..=0xbf, _, _, _, _, rest @ ..] | [0x41, 0xb8..=0xbf, _, _, _, _, rest @ ..] => rest,
            _ => return None,
        };
    }
}

/// Whether a function that has run so far has `%rbp` point to where it pushed its caller's: `push %rbp` first, and
/// `mov %rsp, %rbp` somewhere behind it.
pub fn sets_bp(code: &[u8]) -> bool {
    push_of_bp(code) == Some(1) && code.windows(3).any(|bytes| bytes == [0x48, 0x89, 0xe5])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn beginnings_of_functions() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (&[0x55, 0x48, 0x89, 0xe5], Some(1)),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x55], Some(1)),
            // push %r13; mov %rsi,%r13; push %r12; push %rbp
            (&[0x41, 0x55, 0x49, 0x89, 0xf5, 0x41, 0x54, 0x55, 0x53], Some(3)),
            // push %rbx; xor %eax,%eax; mov $1,%edi; push %rbp
            (&[0x53, 0x31, 0xc0, 0xbf, 1, 0, 0, 0, 0x55], Some(2)),
            // push %rbx; sub $8,%rsp
            (&[0x53, 0x48, 0x83, 0xec, 0x08, 0x55], None),
            // mov (%rdi),%rax: not between registers
            (&[0x48, 0x8b, 0x07, 0x55], None),
            (&[0x53], None),
            (&[], None),
        ];
        for (code, expected) in cases {
            assert_eq!(push_of_bp(code), expected, "{code:x?}");
        }
    }

    #[test]
    fn a_frame_pointer_is_set_once_both_are_done() {
        let code = [0x55, 0x48, 0x8b, 0x05, 1, 2, 3, 4, 0x48, 0x89, 0xe5, 0xc3];
        assert!(sets_bp(&code));
        assert!(!sets_bp(&code[..10]));
        assert!(!sets_bp(&code[1..]));
        assert!(!sets_bp(&[]));
    }

    proptest! {
        #[test]
        fn any_code_is_taken(code in prop::collection::vec(any::<u8>(), 0..LENGTH)) {
            let found = push_of_bp(&code);
            prop_assert!(found.unwrap_or(0) <= LENGTH as u64);
            sets_bp(&code);
        }
    }
}
