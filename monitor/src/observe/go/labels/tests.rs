use proptest::prelude::*;

use super::*;

/// Words at an address of this process.
fn words(words: &[u64]) -> &'static [u64] {
    Box::leak(words.to_vec().into_boxed_slice())
}

fn address(words: &[u64]) -> u64 {
    words.as_ptr() as u64
}

fn string(text: &str) -> [u64; 2] {
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    [text.as_ptr() as u64, text.len() as u64]
}

fn memory() -> Memory {
    // SAFETY: takes nothing, returns a number.
    Memory::of(unsafe { libc::gettid() } as u32).unwrap()
}

/// No constant is in a file.
fn told(form: Form, set: u64) -> Labels {
    read(form, &mut memory(), vec![set, 0, set], |_, _| false)
        .remove(&set)
        .unwrap()
}

fn labels(pairs: &[(&str, &str)], truncated: bool) -> Labels {
    let pairs = pairs.iter();
    Labels {
        pairs: pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        truncated,
    }
}

fn list(pairs: &[(&str, &str)]) -> Vec<u64> {
    let pairs = pairs.iter();
    pairs
        .flat_map(|(key, value)| [string(key), string(value)].concat())
        .collect()
}

/// A bucket of a map, with the tops of its slots' hashes.
fn bucket(slots: &[(u8, &str, &str)], next: u64) -> Vec<u64> {
    let mut tops = [0; SLOTS];
    let (mut keys, mut values) = ([0; 2 * SLOTS], [0; 2 * SLOTS]);
    for (number, (top, key, value)) in slots.iter().enumerate() {
        tops[number] = *top;
        keys[2 * number..2 * number + 2].copy_from_slice(&string(key));
        values[2 * number..2 * number + 2].copy_from_slice(&string(value));
    }
    [&[u64::from_le_bytes(tops)], &keys[..], &values, &[next]].concat()
}

/// The address of a variable that is a map.
fn map(count: u64, shift: u64, buckets: u64, before: u64) -> u64 {
    address(words(&[address(words(&[count, shift << 8, buckets, before]))]))
}

#[test]
fn a_list_is_told_in_its_order() {
    let pairs = words(&list(&[("b", "1"), ("a", ""), ("c", "ü")]));
    let set = address(words(&[address(pairs), 3, 4]));
    assert_eq!(
        told(Form::List, set),
        labels(&[("b", "1"), ("a", ""), ("c", "ü")], false)
    );
    assert_eq!(told(Form::List, address(words(&[0, 0, 0]))), labels(&[], false));
}

#[test]
fn a_map_is_told_with_all_its_buckets() {
    let full: Vec<(u8, String)> = (0..8)
        .map(|number| (MIN_TOP + number, format!("k{number}")))
        .collect();
    let full: Vec<(u8, &str, &str)> = full.iter().map(|(top, key)| (*top, key.as_str(), "v")).collect();
    let last = words(&bucket(&[(200, "z", "26")], 0));
    let first = bucket(&full, address(last));
    // One slot was emptied, one of the old ones has been moved: what it was is in the new ones.
    let second = bucket(&[(1, "gone", ""), (9, "a", "1")], 0);
    let now = words(&[first, second].concat());
    let before = words(&bucket(&[(2, "moved", ""), (7, "old", "2")], 0));
    let told = told(Form::Map, map(11, 1, address(now), address(before)));
    let mut expected: Vec<(&str, &str)> = full.iter().map(|(_, key, value)| (*key, *value)).collect();
    expected.extend([("a", "1"), ("old", "2"), ("z", "26")]);
    expected.sort_unstable();
    assert_eq!(told, labels(&expected, false));
}

#[test]
fn what_is_nowhere_or_endless_is_said_to_be_cut() {
    let nowhere = 16;
    let circle = Box::leak(bucket(&[(7, "a", "b")], 0).into_boxed_slice());
    circle[BUCKET as usize / 8 - 1] = address(circle);
    for (what, form, set, pairs) in [
        ("set", Form::List, nowhere, 0),
        ("list", Form::List, address(words(&[nowhere, 2])), 0),
        ("map", Form::Map, nowhere, 0),
        ("head", Form::Map, address(words(&[nowhere])), 0),
        ("buckets", Form::Map, map(3, 0, nowhere, 0), 0),
        (
            "count",
            Form::Map,
            map(u64::MAX, 0, address(circle), 0),
            MAX_OVERFLOWS,
        ),
        ("shift", Form::Map, map(1, 255, nowhere, nowhere), 0),
        ("circle", Form::Map, map(1, 0, address(circle), 0), MAX_OVERFLOWS),
    ] {
        let told = told(form, set);
        assert!(told.truncated, "{what}: {told:?}");
        assert_eq!(told.pairs.len(), pairs, "{what}");
    }
    // What lies behind the list is anything: here, empty labels.
    let mut pairs = list(&[("key", "value")]);
    pairs.resize(8 * MAX_LABELS, 0);
    let endless = told(Form::List, address(words(&[address(words(&pairs)), u64::MAX])));
    assert!(endless.truncated && endless.pairs.len() <= MAX_LABELS);
    assert!(endless.pairs.contains(&("key".to_owned(), "value".to_owned())));
    let unreadable = words(&[[nowhere, 3], string("value")].concat());
    let set = address(words(&[address(unreadable), 1]));
    assert_eq!(told(Form::List, set), labels(&[], true));
}

#[test]
fn constants_come_from_the_file_where_they_are_not_in_memory() {
    let pairs = words(&[[16, 3], string("value")].concat());
    let set = address(words(&[address(pairs), 1]));
    let constant = |address: u64, bytes: &mut [u8]| {
        bytes.copy_from_slice(b"key");
        address == 16
    };
    let told = read(Form::List, &mut memory(), vec![set], constant);
    assert_eq!(told[&set], labels(&[("key", "value")], false));
}

#[test]
fn many_long_ones_are_cut_to_what_an_answer_may_hold() {
    let long = "x".repeat(1000);
    let sets: Vec<u64> = (0..1000)
        .map(|number| {
            let key = format!("{number}-{long}");
            let pairs: Vec<(&str, &str)> = (0..100).map(|_| (key.as_str(), "v")).collect();
            address(words(&[address(words(&list(&pairs))), 100]))
        })
        .collect();
    let told = read(Form::List, &mut memory(), sets.clone(), |_, _| false);
    assert_eq!(told.len(), 1000);
    assert!(told.values().all(|labels| labels.truncated));
    let bytes = |labels: &Labels| {
        let pairs = labels.pairs.iter();
        pairs.map(|(key, value)| key.len() + value.len()).sum::<usize>()
    };
    let most = told.values().map(|labels| labels.pairs.len()).max();
    assert_eq!(most, Some(MAX_LABELS));
    assert!(told.values().map(bytes).sum::<usize>() <= MAX_TEXTS);
}

proptest! {
    #[test]
    fn any_words_are_taken(raw in prop::collection::vec(prop_oneof![0_u64..300, any::<u64>()], 1..80), inside in 0_usize..80) {
        let mut raw = raw;
        let at = inside % raw.len();
        let base = address(&raw);
        raw[0] = base;
        raw[at] = base + 8 * at as u64 / 2;
        for form in [Form::List, Form::Map] {
            let told = read(form, &mut memory(), vec![base, base + 8 * at as u64], |_, _| false);
            prop_assert!(told.values().all(|labels| labels.pairs.len() <= MAX_LABELS));
        }
    }
}
