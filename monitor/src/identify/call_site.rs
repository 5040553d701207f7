//! Whether an address is one that a call returns to: what stands before it must be a call.
//!
//! x86-64 (Intel's manual, volume 2A, CALL): `E8` and a distance, or `FF /2` and a register or a place in memory.
//! Prefixes before them do not matter. Bytes may look so by chance: this can exclude an address, not prove it.

/// Longest call that is looked for, without prefixes: opcode, ModRM, SIB and four bytes of displacement.
pub const LONGEST: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To this address.
    To(u64),
    /// Through a register or through memory.
    Through,
}

/// The calls that the bytes before `return_address` may be (a direct one, an indirect one, or both by chance).
pub fn before(return_address: u64, bytes: &[u8; LONGEST]) -> [Option<Call>; 2] {
    let direct = match *bytes {
        [_, _, 0xe8, a, b, c, d] => {
            let distance = i32::from_le_bytes([a, b, c, d]);
            Some(Call::To(return_address.wrapping_add_signed(distance.into())))
        }
        _ => None,
    };
    let indirect = (2..=LONGEST).any(|length| {
        let call = bytes.get(LONGEST - length..).unwrap_or_default();
        matches!(call, [0xff, rest @ ..] if operand_length(rest) == Some(length - 1))
    });
    [direct, indirect.then_some(Call::Through)]
}

/// Length of ModRM, SIB and displacement of an `FF /2`.
fn operand_length(bytes: &[u8]) -> Option<usize> {
    let [modrm, rest @ ..] = bytes else {
        return None;
    };
    if modrm >> 3 & 7 != 2 {
        return None;
    }
    let (mode, base) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        return Some(1);
    }
    // A SIB byte stands in the place of register 4.
    let (sib, base) = match (base, rest) {
        (4, [sib, ..]) => (1, sib & 7),
        (4, []) => return None,
        _ => (0, base),
    };
    Some(match mode {
        // No displacement, but for base 5: then it has one of four bytes and no base.
        0 if base == 5 => 1 + sib + 4,
        0 => 1 + sib,
        1 => 1 + sib + 1,
        _ => 1 + sib + 4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_call(code: &[u8]) -> bool {
        let mut bytes = [0x90; LONGEST];
        bytes[LONGEST - code.len()..].copy_from_slice(code);
        before(0x1000, &bytes).iter().any(Option::is_some)
    }

    #[test]
    fn every_form_of_a_call_is_known() {
        let calls: [&[u8]; 12] = [
            &[0xe8, 1, 2, 3, 4],             // call near
            &[0xff, 0xd0],                   // call *%rax
            &[0x41, 0xff, 0xd4],             // call *%r12
            &[0xff, 0x10],                   // call *(%rax)
            &[0xff, 0x50, 0x18],             // call *0x18(%rax)
            &[0xff, 0x90, 0, 1, 0, 0],       // call *0x100(%rax)
            &[0xff, 0x15, 1, 2, 3, 4],       // call *x(%rip)
            &[0xff, 0x14, 0xc8],             // call *(%rax,%rcx,8)
            &[0xff, 0x54, 0x24, 8],          // call *8(%rsp)
            &[0xff, 0x94, 0xc8, 1, 2, 3, 4], // call *x(%rax,%rcx,8)
            &[0xff, 0x14, 0xc5, 1, 2, 3, 4], // call *x(,%rax,8)
            &[0x67, 0xe8, 0, 0, 0, 0],       // as linkers fill up
        ];
        for code in calls {
            assert!(is_call(code), "{code:x?}");
        }
        let others: [&[u8]; 6] = [
            &[0xff, 0xe0],             // jmp *%rax
            &[0xff, 0x25, 1, 2, 3, 4], // jmp *x(%rip)
            &[0xff, 0x14],             // without its SIB
            &[0xe9, 1, 2, 3, 4],       // jmp
            &[0xff, 0x54, 0x24],       // without its displacement
            &[0x0f, 0x05],             // syscall
        ];
        for code in others {
            assert!(!is_call(code), "{code:x?}");
        }
    }

    #[test]
    fn the_target_of_a_direct_call_is_told() {
        let bytes = [0x90, 0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff];
        assert_eq!(before(0x5000, &bytes), [Some(Call::To(0x4ffb)), None]);
        let forward = [0x90, 0x90, 0xe8, 0, 1, 0, 0];
        assert_eq!(before(u64::MAX, &forward)[0], Some(Call::To(0xff)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(address: u64, bytes: [u8; LONGEST]) {
            let [direct, indirect] = before(address, &bytes);
            prop_assert_eq!(direct.is_some(), bytes[2] == 0xe8);
            prop_assert!(!matches!(indirect, Some(Call::To(_))));
        }
    }
}
