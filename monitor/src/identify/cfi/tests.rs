use super::*;
use proptest::prelude::*;

/// Unwind information by hand: (begins, length, instructions), each for one function.
fn section(augmentation: &str, functions: &[(u64, u64, Vec<u8>)]) -> Image {
    let mut data = Vec::new();
    let mut add = |body: &[u8]| {
        let mut body = body.to_vec();
        // Nothing to do, up to the next eight bytes.
        body.resize((body.len() + 4).next_multiple_of(8) - 4, 0);
        let at = data.len();
        data.extend((body.len() as u32).to_le_bytes());
        data.extend(body);
        at
    };
    // The common part: version, augmentation, alignments of code (1) and data (−8), the return address's column,
    // pointers are absolute; the CFA is %rsp + 8, the return address is below it.
    let mut common = vec![0, 0, 0, 0, 1];
    common.extend(augmentation.bytes());
    common.extend([0, 1, 0x78, 16, 1, 0, 0x0c, 7, 8, 0x90, 1]);
    let common_at = add(&common);
    let mut at = data_length(&common);
    for (start, length, instructions) in functions {
        let mut body = ((at + 4 - common_at) as u32).to_le_bytes().to_vec();
        body.extend(start.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.push(0);
        body.extend(instructions);
        add(&body);
        at += data_length(&body);
    }
    data.extend([0; 4]);
    Image {
        eh_frame: Some(Section {
            address: 0x10_0000,
            data: data.into(),
        }),
        ..Image::default()
    }
}

fn data_length(body: &[u8]) -> usize {
    (body.len() + 4).next_multiple_of(8)
}

const PLAIN: u64 = 0x1000;
const ALIGNED: u64 = 0x2000;
const OUTERMOST: u64 = 0x3000;
const ENDLESS: u64 = 0x4000;
const IN_REGISTER: u64 = 0x5000;

fn sample() -> Cfi {
    let functions = [
        // %rbp saved at CFA − 16, the CFA is %rbp + 16.
        (PLAIN, 0x100, vec![0x86, 2, 0x0c, 6, 16]),
        // The CFA is what lies at %rbp − 8: DW_OP_breg6 −8, DW_OP_deref.
        (ALIGNED, 0x100, vec![0x0f, 3, 0x76, 0x78, 0x06]),
        // No return address.
        (OUTERMOST, 0x100, vec![0x07, 16]),
        // The CFA is never worked out: DW_OP_skip −3.
        (ENDLESS, 0x100, vec![0x0f, 3, 0x2f, 0xfd, 0xff]),
        // The CFA is %rsp, the return address is in %rdi.
        (IN_REGISTER, 0x100, vec![0x0e, 0, 0x09, 16, 5]),
    ];
    Cfi::new(&section("zR", &functions)).unwrap()
}

const KNOWN: Known = Known {
    ip: ALIGNED + 5,
    sp: 0x7000,
    bp: 0x7100,
    di: None,
};

/// Every word of the stack is its own address and one more.
fn word(address: u64) -> Option<u64> {
    (0x7000..0x8000).contains(&address).then_some(address + 1)
}

#[test]
fn every_kind_of_row_is_told() {
    let cfi = sample();
    let rows = [
        (PLAIN, Row::Plain),
        (PLAIN + 0xff, Row::Plain),
        (PLAIN + 0x100, Row::Uncovered),
        (ALIGNED, Row::Special),
        (OUTERMOST, Row::End),
        (ENDLESS, Row::Special),
        (IN_REGISTER, Row::Special),
        (0, Row::Uncovered),
        (u64::MAX, Row::Uncovered),
    ];
    for _ in 0..2 {
        for (address, row) in rows {
            assert_eq!(cfi.row(address), row, "{address:x}");
        }
    }
}

#[test]
fn plain_rows_are_told_whole() {
    let cfi = sample();
    let plain = Plain {
        from_bp: true,
        cfa: 16,
        bp: -16,
    };
    assert_eq!(cfi.plain(PLAIN), Some(plain));
    for address in [ALIGNED, OUTERMOST, ENDLESS, IN_REGISTER, 0, u64::MAX] {
        assert_eq!(cfi.plain(address), None, "{address:x}");
    }
    let all = [PLAIN, ALIGNED, OUTERMOST, ENDLESS, IN_REGISTER];
    assert_eq!(cfi.functions(10), all);
    assert_eq!(cfi.functions(2), all[..2]);
}

#[test]
fn an_aligned_stack_is_followed_through_memory() {
    let step = sample().step(ALIGNED, KNOWN, &mut word).unwrap();
    // The CFA is the word at %rbp − 8: one more than its address; the return address lies 8 below.
    let cfa = 0x70f8 + 1;
    let expected = Known {
        ip: cfa - 8 + 1,
        sp: cfa,
        bp: KNOWN.bp,
        di: None,
    };
    assert_eq!(step.registers, expected);
    assert!(!step.interrupted);
    assert_eq!(sample().step(ALIGNED, KNOWN, &mut |_| None), None);
}

#[test]
fn an_endless_expression_ends() {
    assert_eq!(sample().step(ENDLESS, KNOWN, &mut word), None);
}

#[test]
fn a_return_address_in_a_register_is_taken_from_there() {
    assert_eq!(sample().step(IN_REGISTER, KNOWN, &mut word), None);
    let known = Known {
        di: Some(0x1234),
        ..KNOWN
    };
    let step = sample().step(IN_REGISTER, known, &mut word).unwrap();
    assert_eq!((step.registers.ip, step.registers.sp), (0x1234, KNOWN.sp));
}

#[test]
fn a_signal_leads_to_where_it_came() {
    // The CFA is the word at %rsp + 160; %rip lies at %rsp + 168: what glibc says of `__restore_rt`.
    let instructions = vec![
        0x0f, 4, 0x77, 0xa0, 0x01, 0x06, // CFA: DW_OP_breg7 160, DW_OP_deref
        0x10, 16, 3, 0x77, 0xa8, 0x01, // %rip: at DW_OP_breg7 168
        0x10, 6, 3, 0x77, 0xf8, 0x00, // %rbp: at DW_OP_breg7 120
    ];
    let cfi = Cfi::new(&section("zRS", &[(PLAIN, 0x10, instructions)])).unwrap();
    assert_eq!(cfi.row(PLAIN), Row::Special);
    let step = cfi.step(PLAIN, KNOWN, &mut word).unwrap();
    let expected = Known {
        ip: 0x7000 + 168 + 1,
        sp: 0x7000 + 160 + 1,
        bp: 0x7000 + 120 + 1,
        di: None,
    };
    assert_eq!(step.registers, expected);
    assert!(step.interrupted);
}

#[test]
fn our_own_code_is_covered() {
    let own = std::fs::File::open("/proc/self/exe").unwrap();
    let image = Image::parse(&own).unwrap();
    let with_table = Cfi::new(&image).unwrap();
    let without_table = Cfi::new(&Image {
        eh_frame_hdr: None,
        ..image.clone()
    })
    .unwrap();
    assert!(with_table.bytes() == 0 && without_table.bytes() > 0);
    let maps = super::super::maps::Maps::read(std::process::id(), std::process::id()).unwrap();
    let here = our_own_code_is_covered as fn() as usize as u64;
    let (_, code) = maps.code_at(here).unwrap();
    let bias = image.bias(code.range.start, code.offset).unwrap();
    for cfi in [with_table, without_table] {
        assert_eq!(cfi.row(here - bias), Row::Plain);
    }
}

proptest! {
    #[test]
    fn any_instructions_are_survived(
        instructions in prop::collection::vec(any::<u8>(), 0..40),
        sp: u64,
        bp: u64,
        signal: bool,
    ) {
        let augmentation = if signal { "zRS" } else { "zR" };
        let cfi = Cfi::new(&section(augmentation, &[(PLAIN, 0x100, instructions)])).unwrap();
        cfi.row(PLAIN + 7);
        let known = Known { ip: PLAIN + 7, sp, bp, di: Some(bp) };
        cfi.step(PLAIN + 7, known, &mut |address| Some(!address));
    }

    #[test]
    fn any_changes_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        address in prop_oneof![any::<u64>(), PLAIN..IN_REGISTER + 0x200],
    ) {
        let mut data = sample().eh_frame().unwrap().to_vec();
        let length = data.len();
        for (at, value) in changes {
            data[at.index(length)] = value;
        }
        let frames = Section { address: 0x10_0000, data: data.into() };
        for image in [
            Image { eh_frame: Some(frames.clone()), ..Image::default() },
            Image { debug_frame: Some(frames.clone()), ..Image::default() },
        ] {
            let cfi = Cfi::new(&image).unwrap();
            cfi.row(address);
            cfi.step(address, KNOWN, &mut word);
        }
    }

    #[test]
    fn any_table_is_survived(hdr in prop::collection::vec(any::<u8>(), 0..80), table: bool, address: u64) {
        let mut hdr = hdr;
        if table {
            // A header that is well-formed, so that the search begins.
            hdr.splice(0..hdr.len().min(4), [1, 0x1b, 0x03, 0x3b]);
        }
        let image = Image {
            eh_frame: sample_image().eh_frame,
            eh_frame_hdr: Some(Section { address: 0x20_0000, data: hdr.into() }),
            ..Image::default()
        };
        let cfi = Cfi::new(&image).unwrap();
        cfi.row(address);
        cfi.row(0x20_0000);
        cfi.step(address, KNOWN, &mut word);
    }
}

fn sample_image() -> Image {
    section("zR", &[(PLAIN, 0x100, Vec::new())])
}
