use super::*;

const HERE: u64 = 0x1000;

/// `push_front` in what tokio 1.28 and 1.29 were built to, where the branch is, and the number of the task's register.
const PUSHES: [(&[u8], u64, u8); 6] = [
    // 1.28.2: mov [rsp], rbx; mov rax, [r15+8]; cmp rax, rbx; je; mov rcx, [rbx+0x10]; mov rcx, [rcx+0x38];
    // mov [rbx+rcx+8], rax
    (
        &[
            0x48, 0x89, 0x1c, 0x24, 0x49, 0x8b, 0x47, 0x08, 0x48, 0x39, 0xd8, 0x0f, 0x84, 0xa9, 0, 0, 0,
            0x48, 0x8b, 0x4b, 0x10, 0x48, 0x8b, 0x49, 0x38, 0x48, 0x89, 0x44, 0x0b, 0x08,
        ],
        11,
        3,
    ),
    // 1.28.2, fat LTO: lea rax, [r13+0xb0]; mov rax, [rax]; cmp rax, r12; je; mov rcx, [r12+0x10]; mov rcx, [rcx+0x38];
    // mov [r12+rcx+8], rax
    (
        &[
            0x49, 0x8d, 0x85, 0xb0, 0, 0, 0, 0x48, 0x8b, 0x00, 0x4c, 0x39, 0xe0, 0x0f, 0x84, 0x05, 0x2e, 0,
            0, 0x49, 0x8b, 0x4c, 0x24, 0x10, 0x48, 0x8b, 0x49, 0x38, 0x49, 0x89, 0x44, 0x0c, 0x08,
        ],
        13,
        12,
    ),
    // The same with r13: cmp r13, rax; je (short)
    (
        &[
            0x4c, 0x3b, 0xe8, 0x74, 0x40, 0x49, 0x8b, 0x4d, 0x10, 0x48, 0x8b, 0x49, 0x38, 0x49, 0x89, 0x44,
            0x0d, 0x08,
        ],
        3,
        13,
    ),
    // 1.28.2, fat LTO: mov rax, [rax]; cmp rax, r14; je; mov rdx, r14; mov rcx, [r14+0x10]; mov rcx, [rcx+0x38];
    // mov [r14+rcx+8], rax
    (
        &[
            0x48, 0x8b, 0x00, 0x4c, 0x39, 0xf0, 0x0f, 0x84, 0x73, 0x37, 0, 0, 0x4c, 0x89, 0xf2, 0x49, 0x8b,
            0x4e, 0x10, 0x48, 0x8b, 0x49, 0x38, 0x49, 0x89, 0x44, 0x0e, 0x08,
        ],
        6,
        14,
    ),
    // 1.29.1, fat LTO: mov r12, rbx; mov [rsp+0x80], rbx; mov rax, [r13+0x80]; cmp rax, rbx; je; mov rcx, [r12+0x10];
    // mov rcx, [rcx+0x38]; mov rdx, [rsp+0x40]; mov [rdx+rcx+8], rax
    (
        &[
            0x49, 0x89, 0xdc, 0x48, 0x89, 0x9c, 0x24, 0x80, 0, 0, 0, 0x49, 0x8b, 0x85, 0x80, 0, 0, 0, 0x48,
            0x39, 0xd8, 0x0f, 0x84, 0xd5, 0x20, 0, 0, 0x49, 0x8b, 0x4c, 0x24, 0x10, 0x48, 0x8b, 0x49, 0x38,
            0x48, 0x8b, 0x54, 0x24, 0x40, 0x48, 0x89, 0x44, 0x0a, 0x08,
        ],
        21,
        12,
    ),
    // 1.29.1, fat LTO: mov rax, [r12+0x80]; cmp rax, r14; mov ebx, [rsp+0x68]; je; mov rcx, [r14+0x10];
    // mov rcx, [rcx+0x38]; mov rdx, [rsp+0x50]; mov [rdx+rcx+8], rax
    (
        &[
            0x49, 0x8b, 0x84, 0x24, 0x80, 0, 0, 0, 0x4c, 0x39, 0xf0, 0x8b, 0x5c, 0x24, 0x68, 0x0f, 0x84,
            0xac, 0x26, 0, 0, 0x49, 0x8b, 0x4e, 0x10, 0x48, 0x8b, 0x49, 0x38, 0x48, 0x8b, 0x54, 0x24, 0x50,
            0x48, 0x89, 0x44, 0x0a, 0x08,
        ],
        15,
        14,
    ),
];

/// `remove` of 1.28.2, and as a function of its own, which keeps the task in another register as well.
const REMOVALS: [(&[u8], u64, u8); 2] = [
    // jne; mov rax, [rbx+0x10]; mov rax, [rax+0x38]; mov rcx, [rbx+rax]; test rcx, rcx; je; mov rdx, [rcx+0x10];
    // mov rdx, [rdx+0x38]; mov rax, [rbx+rax+8]; mov [rcx+rdx+8], rax
    (
        &[
            0x0f, 0x85, 0xcc, 0, 0, 0, 0x48, 0x8b, 0x43, 0x10, 0x48, 0x8b, 0x40, 0x38, 0x48, 0x8b, 0x0c,
            0x03, 0x48, 0x85, 0xc9, 0x74, 0x65, 0x48, 0x8b, 0x51, 0x10, 0x48, 0x8b, 0x52, 0x38, 0x48, 0x8b,
            0x44, 0x03, 0x08, 0x48, 0x89, 0x44, 0x11, 0x08,
        ],
        21,
        3,
    ),
    // mov rax, rsi; mov rcx, [rsi+0x10]; mov rcx, [rcx+0x38]; mov rdx, [rsi+rcx]; test rdx, rdx; je; mov rsi, [rdx+0x10];
    // mov rsi, [rsi+0x38]; mov rcx, [rax+rcx+8]; mov [rdx+rsi+8], rcx
    (
        &[
            0x48, 0x89, 0xf0, 0x48, 0x8b, 0x4e, 0x10, 0x48, 0x8b, 0x49, 0x38, 0x48, 0x8b, 0x14, 0x0e, 0x48,
            0x85, 0xd2, 0x74, 0x56, 0x48, 0x8b, 0x72, 0x10, 0x48, 0x8b, 0x76, 0x38, 0x48, 0x8b, 0x4c, 0x08,
            0x08, 0x48, 0x89, 0x4c, 0x32, 0x08,
        ],
        18,
        6,
    ),
];

/// What is found, or that something is in doubt.
fn found(code: &[u8]) -> Option<Functions> {
    let mut found = Inlined::default();
    places(code, code.len(), HERE, &mut found).then_some(found.places)
}

fn nothing() -> Option<Functions> {
    Some(Functions::default())
}

#[test]
fn tasks_that_are_put_in_and_taken_out_are_found() {
    for (code, at, register) in PUSHES {
        let place = (HERE + at, Holder::Register(register));
        let expected = Functions {
            spawns: vec![place],
            exits: Vec::new(),
        };
        assert_eq!(found(code), Some(expected), "{code:x?}");
        assert!(likely(code).next().is_some(), "{code:x?}");
    }
    for (code, at, register) in REMOVALS {
        let place = (HERE + at, Holder::Register(register));
        let expected = Functions {
            spawns: Vec::new(),
            exits: vec![place],
        };
        assert_eq!(found(code), Some(expected), "{code:x?}");
        assert!(likely(code).next().is_some(), "{code:x?}");
    }
    // One behind the other.
    let both = [PUSHES[0].0, REMOVALS[0].0, PUSHES[1].0].concat();
    let found = found(&both).unwrap();
    assert_eq!((found.spawns.len(), found.exits.len()), (2, 1));
}

/// `push_front` of a single future, put into what reads the task's number before, where the branch is, the task's register, and
/// a branch before it.
const LONE: [(&[u8], u64, u8, u64); 2] = [
    // 1.54.1, fat LTO: mov rsi, [r14+0x10]; mov rdx, [rsi+0x48]; mov rdx, [r13+rdx]; mov [rsp+0x28], rdx; cmp rdx, r15; jne;
    // mov [rsp+0x2b0], r14; mov rdx, [rdi+8]; cmp rdx, r14; je; mov rsi, [rsi+0x38]; mov [r13+rsi+8], rdx
    (
        &[
            0x49, 0x8b, 0x76, 0x10, 0x48, 0x8b, 0x56, 0x48, 0x49, 0x8b, 0x54, 0x15, 0x00, 0x48, 0x89, 0x54,
            0x24, 0x28, 0x4c, 0x39, 0xfa, 0x0f, 0x85, 0x1b, 0x04, 0, 0, 0x4c, 0x89, 0xb4, 0x24, 0xb0, 0x02,
            0, 0, 0x48, 0x8b, 0x57, 0x08, 0x4c, 0x39, 0xf2, 0x0f, 0x84, 0x3e, 0x04, 0, 0, 0x48, 0x8b, 0x76,
            0x38, 0x49, 0x89, 0x54, 0x35, 0x08,
        ],
        42,
        14,
        21,
    ),
    // 1.54.1: mov rcx, [rsi+0x10]; mov rax, [rcx+0x48]; mov rax, [rsi+rax]; mov [rsp+8], rax; cmp rax, [rdi+0x18]; jne (short);
    // mov r14, [rbx]; mov [rsp+0x10], r15; mov rax, [r14+8]; cmp rax, r15; je; mov rcx, [rcx+0x38]; mov [r15+rcx+8], rax
    (
        &[
            0x48, 0x8b, 0x4e, 0x10, 0x48, 0x8b, 0x41, 0x48, 0x48, 0x8b, 0x04, 0x06, 0x48, 0x89, 0x44, 0x24,
            0x08, 0x48, 0x3b, 0x47, 0x18, 0x75, 0x75, 0x4c, 0x8b, 0x33, 0x4c, 0x89, 0x7c, 0x24, 0x10, 0x49,
            0x8b, 0x46, 0x08, 0x4c, 0x39, 0xf8, 0x0f, 0x84, 0x92, 0, 0, 0, 0x48, 0x8b, 0x49, 0x38, 0x49,
            0x89, 0x44, 0x0f, 0x08,
        ],
        38,
        15,
        21,
    ),
];

#[test]
fn the_vtable_may_be_loaded_before_other_branches() {
    for (code, at, register, other) in LONE {
        let expected = Functions {
            spawns: vec![(HERE + at, Holder::Register(register))],
            exits: Vec::new(),
        };
        assert_eq!(found(code), Some(expected), "{code:x?}");
        assert!(likely(code).next().is_some(), "{code:x?}");
        // Something is called in between, or always jumped away.
        let other = other as usize;
        for leaves in [&[0xe8, 0, 0, 0, 0][..], &[0xeb, 0x10]] {
            let (before, behind) = code.split_at(other);
            assert_eq!(found(&[before, leaves, behind].concat()), nothing());
        }
        // Somebody comes from elsewhere, with another vtable: to behind the branches, and to the store. To the load it does
        // nothing.
        for (to, is_found) in [(at as usize + 6, false), (code.len() - 5, false), (0, true)] {
            let back = (to as i64 - code.len() as i64 - 2) as i8 as u8;
            let found = found(&[code, &[0x75, back]].concat()).unwrap();
            assert_eq!(!found.spawns.is_empty(), is_found, "{code:x?} {to}");
        }
    }
}

/// Whether it is `bind` that was put there, or only what that calls.
#[test]
fn who_tells_a_task_its_list_puts_it_there_itself() {
    for (code, at, register) in PUSHES {
        let binding = |code: &[u8]| {
            let mut found = Inlined::default();
            assert!(places(code, code.len(), HERE, &mut found));
            assert_eq!(found.places.spawns.len(), 1);
            found.binding
        };
        assert!(binding(code).is_empty(), "{code:x?}");
        // mov [task+0x18], rax; the same 0x20 behind its beginning; and that of another one.
        let (rex, base) = (0x48 | register >> 3, 0x40 | register & 7);
        let store = |base: u8, offset: u8| match base & 7 {
            4 => vec![rex, 0x89, base, 0x24, offset],
            _ => vec![rex, 0x89, base, offset],
        };
        for (store, is_it) in [
            (store(base, 0x18), true),
            (store(base, 0x20), false),
            (vec![0x48, 0x89, 0x47, 0x18], false),
        ] {
            let found = binding(&[&store[..], code].concat());
            let expected = is_it.then_some(HERE + store.len() as u64 + at);
            // What is copied to the task's register behind it is another one.
            if code[..3] != [0x49, 0x89, 0xdc] {
                assert_eq!(found, expected.into_iter().collect(), "{store:x?} {code:x?}");
            }
        }
    }
}

/// A part of it is not it.
#[test]
fn what_is_cut_off_is_not_found() {
    for (code, at, _) in PUSHES.iter().chain(&REMOVALS) {
        for length in 0..code.len() {
            assert_eq!(found(&code[..length]), nothing(), "{:x?}", &code[..length]);
        }
        // The branch without what it depends on: a task's pointers are written, and nobody knows why.
        assert_eq!(found(&code[*at as usize..]), None, "{code:x?}");
    }
}

/// The `push_front` of the first build with one byte changed.
fn changed(at: usize, byte: u8) -> Option<Functions> {
    let mut code = PUSHES[0].0.to_vec();
    code[at] = byte;
    found(&code)
}

#[test]
fn what_does_something_else_is_nothing() {
    // Not the vtable; not its offset of the pointers; not the second of them; not the sum.
    assert_eq!(changed(20, 0x18), nothing());
    assert_eq!(changed(24, 0x40), nothing());
    assert_eq!(changed(29, 0x10), nothing());
    assert_eq!(changed(28, 0x4b), nothing());
    // Four bytes of the vtable's address.
    let mut code = PUSHES[0].0.to_vec();
    code[17] = 0x40;
    assert_eq!(found(&code), nothing());
}

#[test]
fn what_is_nearly_it_is_in_doubt() {
    // Something else is compared: rcx with rax, rbx with rdx, 32 bits of them.
    assert_eq!(changed(10, 0xc8), None);
    assert_eq!(changed(10, 0xda), None);
    assert_eq!(changed(8, 0x40), None);
    // The other branch.
    assert_eq!(changed(12, 0x85), None);
    // Something else is written.
    assert_eq!(changed(27, 0x54), None);
    // Between the comparison and the branch something changes the flags (`xor ecx, ecx`), or one of the two
    // (`mov rax, rcx`).
    let (code, at, _) = PUSHES[0];
    for other in [&[0x31, 0xc9][..], &[0x48, 0x89, 0xc8]] {
        let (before, behind) = code.split_at(at as usize);
        assert_eq!(found(&[before, other, behind].concat()), None);
        // Behind the branch.
        let (before, behind) = code.split_at(17);
        let is_kept = other[0] == 0x31;
        assert_eq!(
            found(&[before, other, behind].concat()).is_some(),
            is_kept,
            "{other:x?}"
        );
    }
    // Of a removal: something else is tested, and the task's register is written before the branch (`mov rbx, rdx`).
    let (code, at, _) = REMOVALS[0];
    let mut other = code.to_vec();
    other[20] = 0xc0;
    assert_eq!(found(&other), None);
    let (before, behind) = code.split_at(at as usize);
    assert_eq!(found(&[before, &[0x48, 0x89, 0xd3], behind].concat()), None);
}

/// What stands amid another instruction is none.
#[test]
fn what_does_not_begin_where_an_instruction_does_is_not_found() {
    for (code, at, _) in PUSHES {
        // `mov rax, imm64` has the beginning of the branch as the end of its number.
        let begin = (at as usize + 1).saturating_sub(8);
        let number = &code[begin..];
        let filled = [&[0x90; 8][..8 - (at as usize + 1 - begin)], number].concat();
        let code = [&[0x48, 0xb8][..], &filled].concat();
        assert!(
            found(&code).is_none_or(|found| found.spawns.is_empty()),
            "{code:x?}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_code_is_looked_at(code in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), at: u64) {
        let _ = places(&code, code.len(), at, &mut Inlined::default());
        for at in likely(&code) {
            assert!(at < code.len());
        }
    }

    /// As does what only differs a little from it.
    #[test]
    fn any_change_is_looked_at(which in 0..6_usize, at in 0..46_usize, byte: u8) {
        let mut code = PUSHES[which].0.to_vec();
        let at = at % code.len();
        code[at] = byte;
        if let Some(found) = found(&code) {
            for (place, _) in found.spawns {
                let offset = (place - HERE) as usize;
                assert!(code[offset] == 0x74 || code[offset..offset + 2] == [0x0f, 0x84]);
            }
        }
    }
}
