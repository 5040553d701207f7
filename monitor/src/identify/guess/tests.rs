use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

const STACK: u64 = 0x7000;
const CODE: u64 = 0x40_0000;

/// A stack from [`STACK`] on, and code from [`CODE`] on with functions of 0x100 bytes each.
struct Fake {
    stack: HashMap<u64, u64>,
    code: Vec<u8>,
    made: bool,
    symbols: bool,
}

impl Fake {
    fn new() -> Self {
        Self {
            stack: (0..512).map(|index| (STACK + index * 8, 0)).collect(),
            code: vec![0x90; 0x1000],
            made: false,
            symbols: true,
        }
    }

    fn put(&mut self, at: u64, value: u64) {
        self.stack.insert(at, value);
    }

    /// A direct call; what it returns to.
    fn call(&mut self, from: u64, to: u64) -> u64 {
        self.direct(0xe8, from, to)
    }

    fn jump(&mut self, from: u64, to: u64) {
        self.direct(0xe9, from, to);
    }

    fn direct(&mut self, opcode: u8, from: u64, to: u64) -> u64 {
        let at = (from - CODE) as usize;
        self.code[at] = opcode;
        let distance = to.wrapping_sub(from + 5) as u32;
        self.code[at + 1..at + 5].copy_from_slice(&distance.to_le_bytes());
        from + 5
    }

    fn call_register(&mut self, from: u64) -> u64 {
        let at = (from - CODE) as usize;
        self.code[at..at + 2].copy_from_slice(&[0xff, 0xd0]);
        from + 2
    }
}

impl Surroundings for Fake {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.stack.get(&address).copied()
    }

    fn is_code(&mut self, address: u64) -> bool {
        (CODE..CODE + self.code.len() as u64).contains(&address)
    }

    fn is_made(&mut self, _: u64) -> bool {
        self.made
    }

    fn code(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        let code = address
            .checked_sub(CODE)
            .and_then(|at| self.code.get(at as usize..at as usize + bytes.len()));
        code.is_some_and(|code| {
            bytes.copy_from_slice(code);
            true
        })
    }

    fn function_start(&mut self, address: u64) -> Option<u64> {
        self.symbols.then_some(address & !0xff)
    }
}

/// The current function and others.
const US: u64 = CODE + 0x100;
const CALLER: u64 = CODE + 0x210;
const OTHER: u64 = CODE + 0x300;

#[test]
fn a_frame_pointer_leads_to_the_caller() {
    let mut fake = Fake::new();
    let back = fake.call(CALLER, US);
    fake.put(STACK + 0x40, STACK + 0x80);
    fake.put(STACK + 0x48, back);
    let found = caller(US + 9, STACK, STACK + 0x40, &mut fake).unwrap();
    let expected = Caller {
        return_address: back,
        sp: STACK + 0x50,
        bp: STACK + 0x80,
        scanned: false,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_frame_pointer_that_leads_nowhere_is_none() {
    let mut fake = Fake::new();
    let back = fake.call(CALLER, US);
    let cases = [
        (STACK + 0x44, STACK + 0x80, back),      // not aligned
        (STACK - 8, STACK + 0x80, back),         // below the stack pointer
        (STACK + 0x40, STACK + 0x20, back),      // goes backwards
        (STACK + 0x40, STACK + 0x80, US),        // behind no call
        (STACK + 0x40, STACK + 0x80, 0x1234),    // no code
        (STACK + (2 << 20), STACK + 0x80, back), // too far
    ];
    for (bp, next, return_address) in cases {
        fake.put(bp & !7, next);
        fake.put((bp & !7) + 8, return_address);
        assert_eq!(
            by_frame_pointer(US, STACK, bp, false, &mut fake),
            None,
            "{bp:x} {next:x}"
        );
    }
}

/// The caller has another use for the register, but the function has made it a frame pointer.
#[test]
fn a_function_that_makes_a_frame_pointer_has_one() {
    let mut fake = Fake::new();
    let back = fake.call_register(CALLER);
    fake.put(STACK + 0x40, 1);
    fake.put(STACK + 0x48, back);
    assert!(caller(US + 9, STACK, STACK + 0x40, &mut fake).unwrap().scanned);
    let at = (US - CODE) as usize;
    fake.code[at..at + 4].copy_from_slice(&[0x55, 0x48, 0x89, 0xe5]);
    let found = caller(US + 9, STACK, STACK + 0x40, &mut fake).unwrap();
    assert_eq!((found.return_address, found.bp, found.scanned), (back, 1, false));
    // Not before it has.
    assert!(caller(US + 2, STACK, STACK + 0x40, &mut fake).unwrap().scanned);
}

/// What lies where the caller's was pushed.
#[test]
fn a_scan_finds_the_frame_pointer_that_was_pushed() {
    let mut fake = Fake::new();
    let back = fake.call(CALLER, US);
    let at = (US - CODE) as usize;
    // push %r12; push %rbp
    fake.code[at..at + 3].copy_from_slice(&[0x41, 0x54, 0x55]);
    fake.put(STACK + 0x30, 0x1234);
    fake.put(STACK + 0x40, back);
    let found = caller(US + 9, STACK, 99, &mut fake).unwrap();
    assert_eq!((found.sp, found.bp), (STACK + 0x48, 0x1234));
}

/// What the interpreter of a JVM leaves.
#[test]
fn code_made_at_run_time_needs_no_call() {
    let mut fake = Fake::new();
    fake.made = true;
    fake.put(STACK + 0x40, 0);
    fake.put(STACK + 0x48, US + 7);
    let found = caller(US, STACK, STACK + 0x40, &mut fake).unwrap();
    assert_eq!(
        (found.return_address, found.bp, found.scanned),
        (US + 7, 0, false)
    );
}

#[test]
fn a_scan_takes_the_call_to_the_current_function() {
    let mut fake = Fake::new();
    let stale = fake.call(CALLER + 0x20, OTHER);
    let also_stale = fake.call_register(CALLER + 0x30);
    let back = fake.call(CALLER, US);
    fake.put(STACK + 8, stale);
    fake.put(STACK + 16, also_stale);
    fake.put(STACK + 0x60, back);
    let found = caller(US + 9, STACK, 0, &mut fake).unwrap();
    assert_eq!(
        (found.return_address, found.sp, found.scanned),
        (back, STACK + 0x68, true)
    );
}

/// The register still holds the frame of a function farther out.
#[test]
fn a_call_below_the_frame_pointer_comes_first() {
    let mut fake = Fake::new();
    let outer = fake.call(OTHER, CALLER & !0xff);
    let back = fake.call(CALLER, US);
    fake.put(STACK + 0x20, back);
    fake.put(STACK + 0x40, STACK + 0x80);
    fake.put(STACK + 0x48, outer);
    let found = caller(US + 9, STACK, STACK + 0x40, &mut fake).unwrap();
    assert_eq!(
        (found.return_address, found.bp, found.scanned),
        (back, STACK + 0x40, true)
    );
}

#[test]
fn a_function_that_ends_in_a_jump_to_ours_has_called_us() {
    let mut fake = Fake::new();
    let back = fake.call(CALLER, OTHER);
    fake.jump(OTHER + 0x33, US);
    fake.put(STACK + 0x18, back);
    assert_eq!(caller(US + 9, STACK, 0, &mut fake).unwrap().return_address, back);
    // The same jump in the function behind it says nothing.
    let mut fake = Fake::new();
    let back = fake.call(CALLER, OTHER);
    fake.jump(OTHER + 0x133, US);
    fake.put(STACK + 0x18, back);
    assert_eq!(caller(US + 9, STACK, 0, &mut fake), None);
}

#[test]
fn without_symbols_any_call_will_do() {
    let mut fake = Fake::new();
    fake.symbols = false;
    let back = fake.call(CALLER, OTHER);
    fake.put(STACK + 0x18, US);
    fake.put(STACK + 0x20, back);
    let found = caller(US + 9, STACK, 0, &mut fake).unwrap();
    assert_eq!((found.return_address, found.scanned), (back, true));
}

#[test]
fn a_stub_may_lead_to_us() {
    let mut fake = Fake::new();
    for (at, stub) in [
        (0x500, [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25].as_slice()),
        (0x600, &[0xff, 0x25]),
    ] {
        fake.code[at..at + stub.len()].copy_from_slice(stub);
        let back = fake.call(CALLER, CODE + at as u64);
        fake.put(STACK + 0x18, back);
        assert_eq!(caller(US + 9, STACK, 0, &mut fake).unwrap().return_address, back);
    }
}

#[test]
fn an_empty_stack_has_no_caller() {
    assert_eq!(caller(US, STACK, 0, &mut Fake::new()), None);
    assert_eq!(caller(US, u64::MAX - 3, u64::MAX, &mut Fake::new()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_stack_and_any_code_are_survived(
        words in prop::collection::vec(prop_oneof![any::<u64>(), CODE..CODE + 0x1000, STACK..STACK + 0x1000], 0..40),
        code in prop::collection::vec(prop_oneof![Just(0xe8_u8), Just(0xff), Just(0xe9), any::<u8>()], 0x1000),
        ip: u64,
        bp in prop_oneof![any::<u64>(), STACK..STACK + 0x200],
        symbols: bool,
        made: bool,
    ) {
        let mut fake = Fake { code, symbols, made, ..Fake::new() };
        for (index, word) in words.iter().enumerate() {
            fake.put(STACK + index as u64 * 8, *word);
        }
        if let Some(found) = caller(ip, STACK, bp, &mut fake) {
            prop_assert!(found.sp > STACK);
            prop_assert!(fake.is_code(found.return_address));
        }
    }
}
