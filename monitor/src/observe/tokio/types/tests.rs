//! Debug information made by hand: a task of one async function that awaits a `Notified`; and the same with bytes that lie.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    model::WaitClass,
    observe::{
        memory::Memory,
        programs::Placed,
        tokio::{
            awaits::{Kinds, Trace, Tracer},
            blocks::Blocks,
            chain::{self, Chain},
            program::Program,
            task::Vtable,
        },
    },
};

const POLL: u64 = 0x1000;
const VTABLE: u64 = 0x2000;

/// Forms of attributes.
const STRING: u8 = 0x08;
const DATA1: u8 = 0x0b;
const REFERENCE: u8 = 0x13;
/// As [`REFERENCE`], from the beginning of all units.
const ANYWHERE: u8 = 0x10;
const ADDRESS: u8 = 0x01;
const EXPRESSION: u8 = 0x18;

type Kind = (u8, bool, &'static [(u8, u8)]);

/// Kinds of entries: tag, whether there are others in it, its attributes and their forms.
const KINDS: [Kind; 12] = [
    (0x11, true, &[]),                                                  // unit
    (0x39, true, &[(0x03, STRING)]),                                    // namespace
    (0x13, true, &[(0x03, STRING), (0x0b, DATA1)]),                     // structure
    (0x0d, false, &[(0x03, STRING), (0x49, REFERENCE), (0x38, DATA1)]), // member
    (0x33, true, &[(0x15, REFERENCE)]),                                 // variant part
    (0x19, true, &[(0x16, DATA1)]),                                     // variant
    (
        0x0d,
        false,
        &[(0x03, STRING), (0x49, REFERENCE), (0x38, DATA1), (0x3b, DATA1)],
    ), // variant's member
    (0x24, false, &[(0x03, STRING), (0x0b, DATA1)]),                    // base type
    (0x2e, true, &[(0x03, STRING), (0x11, ADDRESS)]),                   // function
    (0x2f, false, &[(0x49, REFERENCE), (0x03, STRING)]),                // type parameter
    (
        0x34,
        false,
        &[(0x03, STRING), (0x49, REFERENCE), (0x02, EXPRESSION)],
    ), // variable
    (0x13, true, &[(0x1d, REFERENCE), (0x03, STRING)]),                 // type of a vtable
];
const NAMESPACE: u8 = 2;
const STRUCTURE: u8 = 3;
const MEMBER: u8 = 4;
const VARIANTS: u8 = 5;
const VARIANT: u8 = 6;
const VARIANT_MEMBER: u8 = 7;
const BASE: u8 = 8;
const FUNCTION: u8 = 9;
const PARAMETER: u8 = 10;
const VARIABLE: u8 = 11;
const VTABLE_TYPE: u8 = 12;

fn abbreviations() -> Vec<u8> {
    abbreviations_with(REFERENCE)
}

/// `reference`: the form of references.
fn abbreviations_with(reference: u8) -> Vec<u8> {
    let form = |form: u8| if form == REFERENCE { reference } else { form };
    let mut bytes = Vec::new();
    for (number, (tag, has_children, attributes)) in KINDS.iter().enumerate() {
        bytes.extend([number as u8 + 1, *tag, u8::from(*has_children)]);
        bytes.extend(attributes.iter().flat_map(|(name, of)| [*name, form(*of)]));
        bytes.extend([0, 0]);
    }
    bytes.push(0);
    bytes
}

/// Puts units together; types are referred to by a letter.
#[derive(Default)]
struct Maker {
    starts: Vec<usize>,
    bytes: Vec<u8>,
    places: HashMap<char, u32>,
    references: Vec<(usize, char)>,
}

impl Maker {
    /// A unit: length, version 4, offset of the abbreviations, size of an address.
    fn begin(&mut self) -> &mut Self {
        self.starts.push(self.bytes.len());
        self.bytes(&[0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8]).bytes(&[1])
    }

    fn entry(&mut self, kind: u8, name: &str) -> &mut Self {
        self.bytes.push(kind);
        self.text(name)
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes.extend(text.as_bytes());
        self.bytes(&[0])
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// The next entry has this letter.
    fn here(&mut self, letter: char) -> &mut Self {
        self.places.insert(letter, self.bytes.len() as u32);
        self
    }

    fn refer(&mut self, letter: char) -> &mut Self {
        self.references.push((self.bytes.len(), letter));
        self.bytes(&[0; 4])
    }

    fn end(&mut self) -> &mut Self {
        self.bytes(&[0])
    }

    fn member(&mut self, name: &str, of_type: char, at: u8) -> &mut Self {
        self.entry(MEMBER, name).refer(of_type).bytes(&[at])
    }

    fn variant(&mut self, value: u8, name: &str, of_type: char, line: u8) -> &mut Self {
        self.bytes(&[VARIANT, value])
            .entry(VARIANT_MEMBER, name)
            .refer(of_type)
            .bytes(&[0, line])
            .end()
    }

    fn units(mut self) -> Vec<u8> {
        for (at, letter) in &self.references {
            self.bytes[*at..at + 4].copy_from_slice(&self.places[letter].to_le_bytes());
        }
        let mut end = self.bytes.len();
        for start in self.starts.into_iter().rev() {
            let length = (end - start - 4) as u32;
            self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
            end = start;
        }
        self.bytes
    }
}

/// `async fn fetch` in `app`, in state 3 at line 12; its task's cell has it at 56.
fn info() -> Vec<u8> {
    info_in(1)
}

/// The same in one unit, or in two, of which the second refers to the first for numbers and for the state that waits.
fn info_in(units: u32) -> Vec<u8> {
    let mut maker = Maker::default();
    maker.begin();
    maker.here('b').entry(BASE, "u8").bytes(&[1]);
    let suspended = |maker: &mut Maker| {
        maker.here('s').entry(STRUCTURE, "Suspend0").bytes(&[24]);
        maker.member("__awaitee", 'n', 8).end();
    };
    if units == 2 {
        suspended(&mut maker);
        maker.end().begin();
    }
    maker.entry(NAMESPACE, "app").entry(NAMESPACE, "fetch");
    maker.here('f').entry(STRUCTURE, "{async_fn_env#0}").bytes(&[24]);
    maker.bytes(&[VARIANTS]).refer('d');
    maker.here('d').member("__state", 'b', 16);
    maker.variant(0, "0", 'u', 10).variant(3, "3", 's', 12).end();
    maker.here('u').entry(STRUCTURE, "Unresumed").bytes(&[24]).end();
    if units == 1 {
        suspended(&mut maker);
    }
    maker.end().end().end();
    maker
        .entry(NAMESPACE, "tokio")
        .entry(NAMESPACE, "sync")
        .entry(NAMESPACE, "notify");
    maker.here('n').entry(STRUCTURE, "Notified").bytes(&[8]).end();
    maker.end().end();
    maker
        .entry(NAMESPACE, "runtime")
        .entry(NAMESPACE, "task")
        .entry(NAMESPACE, "core");
    maker.here('c').entry(STRUCTURE, "Cell<F, S>").bytes(&[80]);
    maker.bytes(&[PARAMETER]).refer('f').text("T");
    maker.member("core", 'o', 32).end();
    maker.here('o').entry(STRUCTURE, "Core<F, S>").bytes(&[40]);
    maker.member("stage", 'g', 16).end();
    maker.here('g').entry(STRUCTURE, "Stage<F>").bytes(&[32]);
    maker.bytes(&[VARIANTS]).refer('e');
    maker.here('e').member("", 'b', 0);
    maker
        .variant(0, "Running", 'r', 1)
        .variant(1, "Consumed", 'u', 1)
        .end()
        .end();
    maker.here('r').entry(STRUCTURE, "Running").bytes(&[32]);
    maker.member("__0", 'f', 8).end();
    maker.end().end().end().end();
    maker.entry(FUNCTION, "poll<F, S>").bytes(&POLL.to_le_bytes());
    maker.bytes(&[PARAMETER]).refer('f').text("T").end();
    maker.entry(VARIABLE, "<F as Future>::{vtable}").refer('v');
    maker.bytes(&[9, 0x03]).bytes(&VTABLE.to_le_bytes());
    maker
        .here('v')
        .bytes(&[VTABLE_TYPE])
        .refer('f')
        .text("{vtable_type}")
        .end();
    maker.end();
    maker.units()
}

fn types(info: &[u8], abbreviations: &[u8]) -> Types {
    let mut types = Types::new(DebugSections::for_tests(info, abbreviations));
    let until = Instant::now() + Duration::from_secs(60);
    while !types.advance(&HashSet::from([POLL]), until) {
        assert!(Instant::now() < until);
    }
    types
}

/// What a task in this very process awaits, as the types tell.
fn follow(types: &mut Types, cell: &[u64]) -> Option<(Trace, Chain)> {
    let vtable = Vtable {
        functions: [POLL; 7],
        trailer: 72,
        id: 40,
        keeps_place: false,
    };
    let placed = Placed {
        bias: 0,
        program: Rc::new(Program::of_vtables(HashMap::new())),
        module: "app".into(),
    };
    // SAFETY: takes nothing, returns a number.
    let mut blocks = Blocks::new(Memory::of(unsafe { libc::gettid() } as u32).unwrap());
    let mut kinds = Kinds::default();
    let mut tracer = Tracer {
        placed: &placed,
        blocks: &mut blocks,
        types: types.open(),
        kinds: &mut kinds,
        joined: None,
        steps: 0,
    };
    let trace = tracer.trace(&vtable, cell.as_ptr() as u64)?;
    let chain = chain::describe(&trace, &mut tracer.types, "app");
    Some((trace, chain))
}

fn cell(state: u64) -> Vec<u64> {
    let mut cell = vec![0; 16];
    cell[(56 + 16) / 8] = state;
    cell
}

#[test]
fn a_task_is_followed_to_what_it_awaits() {
    assert_followed(types(&info(), &abbreviations()));
}

/// Code that is put into another unit leaves its types behind.
#[test]
fn types_are_followed_from_unit_to_unit() {
    assert_followed(types(&info_in(2), &abbreviations_with(ANYWHERE)));
}

fn assert_followed(mut types: Types) {
    let mut reader = types.open();
    let future = reader.future(POLL).unwrap();
    assert_eq!(reader.of_vtable(VTABLE), Some(future));
    assert!(reader.cell(future).is_some());
    let site = reader.site(POLL).unwrap();
    assert_eq!((site.function.as_str(), site.line), ("app::fetch", Some(10)));
    let (_, chain) = follow(&mut types, &cell(3)).unwrap();
    let names: Vec<_> = chain
        .frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["tokio::sync::notify::Notified", "app::fetch"]);
    let site = chain.block_site.unwrap();
    assert_eq!((site.function.as_str(), site.line), ("app::fetch", Some(12)));
    assert_eq!(chain.waits, Some(("Notified".to_owned(), WaitClass::Internal)));
    let (_, chain) = follow(&mut types, &cell(0)).unwrap();
    assert_eq!(
        chain.waits,
        Some(("not polled yet".to_owned(), WaitClass::Internal))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever the debug information says: it comes to an end, and says something or nothing.
    #[test]
    fn bytes_that_lie_come_to_an_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_kinds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
        state in 0_u64..5,
    ) {
        let (mut info, mut abbreviations) = (info(), abbreviations());
        for (at, byte) in changes {
            let at = at.index(info.len());
            info[at] = byte;
        }
        for (at, byte) in in_kinds {
            let at = at.index(abbreviations.len());
            abbreviations[at] = byte;
        }
        let mut types = types(&info, &abbreviations);
        let _ = follow(&mut types, &cell(state));
        let mut reader = types.open();
        for at in 0..info.len() as u64 {
            let _ = reader.layout(at);
        }
    }
}
