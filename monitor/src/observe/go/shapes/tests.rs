use proptest::prelude::*;

use super::{
    super::{
        goroutine::{Decoded, tests::waiting},
        stack::Unwound,
    },
    *,
};

/// One that waits, with so many words of its stack in use.
fn goroutine(words: usize) -> Goroutine {
    let (bytes, offsets) = waiting();
    let Decoded::Live(mut goroutine) = Goroutine::decode(offsets, 0xc000, &bytes) else {
        panic!("not live");
    };
    goroutine.stack = 0x1000..0x3000;
    goroutine.sp = 0x3000 - 8 * words as u64;
    goroutine
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Of a stack of these words, with return addresses at these of them.
fn shape(words: &[u64], returns: &[usize], from_sp: bool) -> (Outline, Shape) {
    let goroutine = goroutine(words.len());
    let places: Vec<u64> = returns.iter().map(|at| goroutine.sp + 8 * *at as u64).collect();
    let pcs = Pcs {
        pcs: returns.iter().map(|at| words[*at]).collect(),
        truncated: false,
    };
    let outline = Outline::of(&goroutine).unwrap();
    (
        outline,
        Shape::of(&goroutine, &bytes(words), &places, &pcs, from_sp).unwrap(),
    )
}

const WORDS: [u64; 7] = [90, 91, 71, 92, 72, 93, 94];

fn alike(shape: Shape) -> Alike {
    Alike(vec![shape])
}

#[test]
fn only_what_lies_between_the_return_addresses_is_read() {
    let one = goroutine(WORDS.len());
    for (from_sp, from) in [(false, one.sp + 16), (true, one.sp)] {
        let alike = alike(shape(&WORDS, &[2, 4], from_sp).1);
        let has = |one: &Goroutine, from: u64, words: &[u64]| {
            let found = alike.find(one, from, &bytes(words));
            found.map(|(pcs, is_sound)| (pcs.pcs.clone(), is_sound))
        };
        let expected = Some((vec![71, 72], true));
        let place = alike.place(&one);
        assert_eq!(place, from..one.sp + 40, "{from_sp}");
        let skipped = (from - one.sp) as usize / 8;
        let mut read = WORDS[skipped..5].to_vec();
        assert_eq!(has(&one, place.start, &read), expected);
        // The same of one whose stack lies elsewhere.
        let mut moved = one.clone();
        (moved.stack, moved.sp) = (0x71000..0x73000, one.sp + 0x7_0000);
        assert_eq!(has(&moved, alike.place(&moved).start, &read), expected);
        // What is no return address may be anything.
        read[3 - skipped] = 7;
        assert_eq!(has(&one, place.start, &read), expected);
        read[4 - skipped] = 7;
        assert_eq!(has(&one, place.start, &read), None);
        // Not all of it is there.
        assert_eq!(has(&one, place.start, &read[..1]), None);
        assert_eq!(has(&one, u64::MAX - 3, &WORDS), None);
    }
}

#[test]
fn where_there_are_several_it_is_not_known_that_it_stood_still() {
    let mut shapes = Shapes::new();
    let one = goroutine(WORDS.len());
    let with = |number: u64| [90, 91, 71, 92, number, 93, 94];
    let found = |shapes: &Shapes, words: &[u64; 7]| {
        let alike = shapes.get(&one)?;
        let place = alike.place(&one);
        assert_eq!(place, one.sp + 16..one.sp + 40);
        let (pcs, is_sound) = alike.find(&one, place.start, &bytes(&words[2..5]))?;
        Some((pcs.pcs[1], is_sound))
    };
    assert_eq!(found(&shapes, &with(0)), None);
    for number in 0..MAX_ALIKE as u64 {
        let (outline, shape) = shape(&with(number), &[2, 4], false);
        for _ in 0..2 {
            assert!(shapes.is_open(&outline));
            shapes.learn(outline, shape.clone());
        }
        for known in 0..=number {
            assert_eq!(found(&shapes, &with(known)), Some((known, number == 0)));
        }
        assert_eq!(found(&shapes, &with(number + 1)), None);
    }
    // Most would be read in vain.
    for number in [99, 0] {
        let (outline, shape) = shape(&with(number), &[2, 4], false);
        shapes.learn(outline, shape);
        assert!(shapes.get(&one).is_none() && !shapes.is_open(&outline));
    }
}

#[test]
fn another_outline_has_another_shape() {
    let mut shapes = Shapes::new();
    let one = goroutine(WORDS.len());
    let (outline, first) = shape(&WORDS, &[2, 4], false);
    shapes.learn(outline, first);
    let changes: [fn(&mut Goroutine); 5] = [
        |one| one.pc += 1,
        |one| one.startpc += 1,
        |one| one.sp -= 8,
        |one| one.reason += 1,
        |one| one.status = Status::Runnable,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = one.clone();
        change(&mut other);
        assert!(shapes.get(&other).is_none(), "{number}");
    }
    assert!(shapes.get(&one).is_some());
}

#[test]
fn so_many_and_no_more_are_remembered() {
    let (outline, shape) = shape(&WORDS, &[2, 4], false);
    let mut shapes = Shapes::new();
    let other = |number: usize| Outline {
        pc: number as u64,
        ..outline
    };
    for number in 0..MAX_OUTLINES + 5 {
        shapes.learn(other(number), shape.clone());
    }
    assert_eq!(shapes.known.len(), MAX_OUTLINES);
    assert!(shapes.is_open(&other(0)));
    assert!(!shapes.is_open(&other(MAX_OUTLINES)));
    let deep: Vec<u64> = (0..260).collect();
    let returns: Vec<usize> = (0..250).collect();
    let (_, deep) = self::shape(&deep, &returns, false);
    let mut shapes = Shapes::new();
    for number in 0..MAX_OUTLINES {
        shapes.learn(other(number), deep.clone());
    }
    let told = shapes.known.values().flatten().count();
    assert_eq!((told, shapes.count), (MAX_RETURNS / 250, MAX_RETURNS / 250 * 250));
    let mut none = Shapes::default();
    none.learn(outline, shape);
    assert!(none.known.is_empty() && !none.is_open(&outline));
}

proptest! {
    /// Whatever is on a stack, and wherever unwinding was led to.
    #[test]
    fn what_is_read_is_in_use_and_fits_itself(
        words in prop::collection::vec(any::<u64>(), 1..64),
        places in prop::collection::vec(0x2d00_u64..0x3100, 0..8),
        from_sp in any::<bool>(),
    ) {
        let one = goroutine(words.len());
        let bytes = bytes(&words);
        let unwound = Unwound { places, ..Unwound::default() };
        if let Some(shape) = Shape::of(&one, &bytes, &unwound.places, &unwound.pcs, from_sp) {
            prop_assert!(shape.fits(&one, one.sp, &bytes));
            let place = alike(shape).place(&one);
            prop_assert!(place.is_empty() || one.sp <= place.start && place.end <= one.stack.end);
        }
    }
}
