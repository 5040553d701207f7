use super::*;
use proptest::prelude::*;

const SAMPLE: &str = "\
55d0c8a00000-55d0c8a02000 r--p 00000000 fe:00 1234                       /usr/bin/my app
55d0c8a02000-55d0c8a05000 r-xp 00002000 fe:00 1234                       /usr/bin/my app
55d0c9000000-55d0c9021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
7f0000001000-7f0000002000 r-xp 00000000 00:00 0                          [anon:code]
7f0000010000-7f0000020000 r-xs 00001000 00:01 77                         /memfd:jit (deleted)
7f0000020000-7f0000021000 ---p 00000000 00:00 0 
7f0000021000-7f0000031000 rw-p 00000000 00:00 0 
7f0000031000-7f0000032000 r-xp 00000000 fe:00 9                          /a/b\\012c/lib\u{1b}.so.1 (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

fn parse_all(text: &[u8], chunk: usize) -> Result<Maps, MapsError> {
    let mut lines = Lines::default();
    for piece in text.chunks(chunk.max(1)) {
        lines.feed(piece)?;
    }
    lines.finish()
}

#[test]
fn code_is_told_with_its_origin() {
    let maps = parse_all(SAMPLE.as_bytes(), 4096).unwrap();
    let told: Vec<_> = maps
        .code()
        .iter()
        .map(|code| (code.origin.clone(), &*code.name, &*code.folder, code.offset))
        .collect();
    let expected = [
        (Origin::File, "my app", "/usr/bin/", 0x2000),
        (Origin::Anonymous, "", "", 0),
        (Origin::Anonymous, "", "", 0),
        (Origin::File, "memfd:jit", "/", 0x1000),
        (Origin::File, "lib\u{fffd}.so.1", "/a/b\\012c/", 0),
        (Origin::Vdso, "[vdso]", "", 0),
        (Origin::Anonymous, "", "", 0),
    ];
    assert_eq!(told, expected);
}

#[test]
fn addresses_are_found() {
    let maps = parse_all(SAMPLE.as_bytes(), 4096).unwrap();
    assert_eq!(maps.code_at(0x55d0_c8a0_2000).unwrap().0, 0);
    assert_eq!(maps.code_at(0x55d0_c8a0_4fff).unwrap().0, 0);
    assert_eq!(maps.code_at(0x55d0_c8a0_5000), None);
    assert_eq!(maps.code_at(0x7f00_0000_1800).unwrap().0, 2);
    assert_eq!(maps.code_at(u64::MAX), None);
    // Not through the guard page, but through a change of names.
    assert_eq!(maps.readable_until(0x7f00_0002_0fff), None);
    assert_eq!(maps.readable_until(0x7f00_0002_1000), Some(0x7f00_0003_2000));
    assert_eq!(maps.readable_until(0x7ffc_0000_0000), Some(0x7ffc_0002_1000));
}

#[test]
fn lines_may_come_in_any_pieces() {
    let whole = parse_all(SAMPLE.as_bytes(), usize::MAX).unwrap();
    for chunk in [1, 2, 7, 64, 100] {
        assert_eq!(parse_all(SAMPLE.as_bytes(), chunk).unwrap(), whole);
    }
}

#[test]
fn what_is_no_map_is_refused() {
    for text in [
        "x",
        "1000-2000",
        "1000-2000 r-xp 0 0:0",
        "2000-1000 r-xp 0 0:0 0",
        "1000-2000 r 0 0:0 0",
        "+1000-2000 r-xp 0 0:0 0",
        "1000-2000 r-xp 0 0:0 -1",
        "10000000000000000-20000000000000000 r-xp 0 0:0 0",
        "\n",
    ] {
        assert!(
            matches!(parse_all(text.as_bytes(), 4096), Err(MapsError::Malformed)),
            "{text}"
        );
    }
    let endless = vec![b'a'; MAX_LINE + 1];
    assert!(matches!(parse_all(&endless, 4096), Err(MapsError::Malformed)));
}

#[test]
fn our_own_map_is_read() {
    let pid = std::process::id();
    let maps = Maps::read(pid, pid).unwrap();
    let here = our_own_map_is_read as fn() as usize as u64;
    let (_, code) = maps.code_at(here).unwrap();
    assert_eq!(code.origin, Origin::File);
    let on_stack = 0_u64;
    assert!(maps.readable_until(&raw const on_stack as u64).is_some());
    assert!(matches!(Maps::read(pid, 1), Err(MapsError::Gone)));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(text in prop::collection::vec(any::<u8>(), 0..500), chunk in 1_usize..64) {
        let _ = parse_all(&text, chunk);
    }

    #[test]
    fn any_lines_are_taken_or_refused(
        text in "([0-9a-f]{1,17}-[0-9a-f]{1,17} [r-][w-][x-][ps] [0-9a-f]{1,9} 00:0[01] [0-9]{1,3} {0,9}[\\PC]{0,20}\n){0,8}",
        address: u64,
    ) {
        if let Ok(maps) = parse_all(text.as_bytes(), 4096) {
            maps.code_at(address);
            maps.readable_until(address);
            for code in maps.code() {
                prop_assert!(code.name.chars().count() <= MAX_NAME);
                prop_assert!(!code.name.chars().any(char::is_control));
            }
        }
    }
}
