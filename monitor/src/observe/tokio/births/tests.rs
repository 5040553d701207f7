use super::*;

/// `OwnedTasks::bind_inner` of tokio 1.54 (fat LTO), by other registers, and of 1.33.
const SPAWNS: [&[u8]; 3] = [
    // push rbp, r15, r14, r13, r12, rbx; sub rsp, 0x38; mov rbx, rdx; mov r15, rsi; mov rax, [rdi+0x28];
    // mov [rsi+0x18], rax; mov rax, [rsi+0x10]; mov rax, [rax+0x48]; mov r12, [rsi+rax]
    &[
        0x55, 0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54, 0x53, 0x48, 0x83, 0xec, 0x38, 0x48, 0x89, 0xd3,
        0x49, 0x89, 0xf7, 0x48, 0x8b, 0x47, 0x28, 0x48, 0x89, 0x46, 0x18, 0x48, 0x8b, 0x46, 0x10, 0x48, 0x8b,
        0x40, 0x48, 0x4c, 0x8b, 0x24, 0x06,
    ],
    // push rbx; mov rbx, rsi; mov rcx, [rdi+0x20]; mov [rbx+0x18], rcx; mov rax, [rbx+0x10]; mov rax, [rax+0x48];
    // mov rdx, [rax+rbx]
    &[
        0x53, 0x48, 0x89, 0xf3, 0x48, 0x8b, 0x4f, 0x20, 0x48, 0x89, 0x4b, 0x18, 0x48, 0x8b, 0x43, 0x10, 0x48,
        0x8b, 0x40, 0x48, 0x48, 0x8b, 0x14, 0x18,
    ],
    // push rbx; mov rbx, rsi; mov rax, [rdi]; mov [rsi+0x18], rax; lea r15, [rdi+8]; mov r13b, 1; xor eax, eax;
    // lock cmpxchg [r15], r13b
    &[
        0x53, 0x48, 0x89, 0xf3, 0x48, 0x8b, 0x07, 0x48, 0x89, 0x46, 0x18, 0x4c, 0x8d, 0x7f, 0x08, 0x41, 0xb5,
        0x01, 0x31, 0xc0, 0xf0, 0x45, 0x0f, 0xb0, 0x2f,
    ],
];

/// `OwnedTasks::remove` of tokio 1.54, and `release` of 1.54 (fat LTO) and of 1.44.
const EXITS: [(&[u8], bool); 3] = [
    // push rbx; push rax; mov rbx, [rsi]; mov rax, [rbx+0x18]; test rax, rax; je; mov [rsp], rax;
    // cmp rax, [rdi+0x28]; jne
    (
        &[
            0x53, 0x50, 0x48, 0x8b, 0x1e, 0x48, 0x8b, 0x43, 0x18, 0x48, 0x85, 0xc0, 0x0f, 0x84, 0xc9, 0, 0,
            0, 0x48, 0x89, 0x04, 0x24, 0x48, 0x3b, 0x47, 0x28, 0x0f, 0x85, 0x14, 1, 0, 0,
        ],
        true,
    ),
    // push rbx; sub rsp, 0x10; mov rax, [rsi+0x18]; test rax, rax; je; mov [rsp+8], rax; cmp rax, [rdi+0x218]; jne
    (
        &[
            0x53, 0x48, 0x83, 0xec, 0x10, 0x48, 0x8b, 0x46, 0x18, 0x48, 0x85, 0xc0, 0x0f, 0x84, 0xd5, 0, 0,
            0, 0x48, 0x89, 0x44, 0x24, 0x08, 0x48, 0x3b, 0x87, 0x18, 0x02, 0, 0, 0x0f, 0x85, 0x24, 1, 0, 0,
        ],
        false,
    ),
    // push rax; mov rsi, [rsi]; mov rax, [rsi+0x18]; test rax, rax; je; mov rdx, [rdi]; mov [rsp], rax;
    // cmp rax, [rdx+0xb0]; jne
    (
        &[
            0x50, 0x48, 0x8b, 0x36, 0x48, 0x8b, 0x46, 0x18, 0x48, 0x85, 0xc0, 0x74, 0x20, 0x48, 0x8b, 0x17,
            0x48, 0x89, 0x04, 0x24, 0x48, 0x3b, 0x82, 0xb0, 0, 0, 0, 0x75, 0x14,
        ],
        true,
    ),
];

#[test]
fn the_functions_are_known_by_what_they_do() {
    for code in SPAWNS {
        assert_eq!(meaning(code, 0x1000), Some(Meaning::Spawn), "{code:x?}");
    }
    for (code, is_indirect) in EXITS {
        assert_eq!(
            meaning(code, 0x1000),
            Some(Meaning::Exit { is_indirect }),
            "{code:x?}"
        );
    }
}

/// No part of it may be missing, and none be another.
#[test]
fn nothing_else_is_taken_for_them() {
    let all = SPAWNS.iter().copied().chain(EXITS.iter().map(|(code, _)| *code));
    for code in all {
        for length in 0..code.len() {
            assert_eq!(meaning(&code[..length], 0x1000), None, "{:x?}", &code[..length]);
        }
    }
    // Another field of the task's; of the vtable's.
    let changed = |at: usize, byte: u8| {
        let mut code = SPAWNS[1].to_vec();
        code[at] = byte;
        meaning(&code, 0x1000)
    };
    assert_eq!(changed(11, 0x20), None);
    assert_eq!(changed(15, 0x08), None);
    assert_eq!(changed(19, 0x40), None);
    // The task's list is compared with a field of its own.
    let mut code = EXITS[0].0.to_vec();
    code[24] = 0x43;
    assert_eq!(meaning(&code, 0x1000), None);
    assert_eq!(meaning(&[], 0x1000), None);
    assert_eq!(meaning(&[0xc3], 0x1000), None);
}

proptest::proptest! {
    #[test]
    fn any_code_is_looked_at(code in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100), at: u64) {
        let _ = meaning(&code, at);
    }
}
