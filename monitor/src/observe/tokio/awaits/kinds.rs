//! What types are: whether a future may be in one, and whether a thing of the world's is.

use std::collections::HashMap;

use crate::observe::tokio::{
    reasons::{is_collection, is_future, is_list, is_timer, is_worlds, leaf},
    types::{Layout, Reader, Shape},
};

/// Types around a future that does not await by itself. A web server's connection has twenty around what answers.
const MAX_NESTING: usize = 48;
/// Types that are looked at for one.
const MAX_STEPS: u32 = 16 << 10;
/// References to references to a future.
const MAX_REFERENCES: u32 = 8;

/// What is in a future that awaits no other one that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holds {
    Nothing,
    /// A thing of the world's: a connection, a file, a process.
    World,
    /// Futures that are out of sight: some of them may be timers.
    Futures,
}

/// What is known of a program's types, by their places in `.debug_info`.
#[derive(Debug, Default)]
pub struct Kinds {
    leading: HashMap<u64, bool>,
    worldly: HashMap<u64, bool>,
    hiding: HashMap<u64, bool>,
}

impl Kinds {
    /// Whether there may be a future in a type.
    pub fn leads(&mut self, types: &mut Reader<'_>, of_type: u64) -> bool {
        any_within(
            types,
            &mut self.leading,
            of_type,
            &|layout: &Layout| match &layout.shape {
                _ if leaf(&layout.name).is_some() || is_list(&layout.name) => Some(true),
                Shape::Coroutine { .. } => Some(true),
                Shape::Dyn { .. } => Some(is_future(&layout.name) || is_timer(&layout.name)),
                _ => None,
            },
        )
    }

    /// What is in a type.
    pub fn holds(&mut self, types: &mut Reader<'_>, of_type: u64) -> Holds {
        let mut any = |known: &mut HashMap<u64, bool>, is_so: fn(&str) -> bool| {
            any_within(types, known, of_type, &|layout: &Layout| match &layout.shape {
                _ if is_so(&layout.name) => Some(true),
                Shape::Coroutine { .. } | Shape::Dyn { .. } => Some(false),
                _ => None,
            })
        };
        if any(&mut self.hiding, is_collection) {
            Holds::Futures
        } else if any(&mut self.worldly, is_worlds) {
            Holds::World
        } else {
            Holds::Nothing
        }
    }
}

/// Whether something is so of a type or of one in it. `is_so` tells it of the types of which it is plain.
fn any_within(
    types: &mut Reader<'_>,
    known: &mut HashMap<u64, bool>,
    of_type: u64,
    is_so: &impl Fn(&Layout) -> Option<bool>,
) -> bool {
    let mut search = Search {
        types,
        known,
        is_so,
        path: Vec::new(),
        steps: 0,
    };
    search.any(of_type).0
}

struct Search<'a, 'b, F> {
    types: &'b mut Reader<'a>,
    known: &'b mut HashMap<u64, bool>,
    is_so: &'b F,
    /// The types around the one that is looked at.
    path: Vec<u64>,
    steps: u32,
}

impl<F: Fn(&Layout) -> Option<bool>> Search<'_, '_, F> {
    /// With it the outermost type of the path that this was said without knowing.
    fn any(&mut self, of_type: u64) -> (bool, usize) {
        if let Some(known) = self.known.get(&of_type) {
            return (*known, usize::MAX);
        }
        // A type that contains itself adds nothing.
        if let Some(at) = self.path.iter().position(|around| *around == of_type) {
            return (false, at);
        }
        self.steps += 1;
        if self.path.len() >= MAX_NESTING || self.steps > MAX_STEPS {
            return (false, usize::MAX);
        }
        let Some(layout) = self.types.layout(of_type) else {
            return (false, usize::MAX);
        };
        let depth = self.path.len();
        self.path.push(of_type);
        let mut without = usize::MAX;
        let mut within = |this: &mut Self, part: u64| {
            let (found, at) = this.any(part);
            without = without.min(at);
            found
        };
        let found = (self.is_so)(&layout).unwrap_or_else(|| match &layout.shape {
            Shape::Pointer(target) => leads_on(&layout.name) && within(self, *target),
            Shape::Structure(parts) => parts.iter().any(|part| within(self, part.of_type)),
            Shape::Enumeration { variants, .. } => {
                variants.iter().any(|variant| within(self, variant.part.of_type))
            }
            Shape::Coroutine { .. } | Shape::Dyn { .. } | Shape::Other => false,
        });
        self.path.pop();
        if found || without >= depth {
            self.known.insert(of_type, found);
            return (found, usize::MAX);
        }
        (found, without)
    }
}

/// The type that a reference, pinned or not, is to.
pub fn bare(types: &mut Reader<'_>, of_type: u64) -> u64 {
    let mut bare = of_type;
    for _ in 0..MAX_REFERENCES {
        let Some(layout) = types.layout(bare) else {
            break;
        };
        bare = match &layout.shape {
            Shape::Pointer(target) if leads_on(&layout.name) => *target,
            Shape::Structure(parts) if layout.name.starts_with("core::pin::Pin<") => match parts.as_slice() {
                [part] => part.of_type,
                _ => break,
            },
            _ => break,
        };
    }
    bare
}

/// The type that a pointer points to, whatever is around the pointer.
pub fn pointee(types: &mut Reader<'_>, of_type: u64) -> Option<u64> {
    let mut inside = of_type;
    for _ in 0..MAX_REFERENCES {
        inside = match &types.layout(inside)?.shape {
            Shape::Pointer(target) => return Some(*target),
            Shape::Structure(parts) => parts.first()?.of_type,
            _ => return None,
        };
    }
    None
}

/// Whether what a pointer points to is awaited with it: not what others own as well.
pub fn leads_on(name: &str) -> bool {
    name.starts_with("alloc::boxed::Box<") || name.starts_with("&mut ")
}
