//! Who makes tasks: from the function that puts a task into its list, frame by frame through libraries, to code of the
//! program's own. The kernel side walks; what it needs to know of a place that a call returns to is worked out here: whose
//! code it is, and how to get from there to the frame outside.
//!
//! Most of these places are found before anything was made: who calls that function stands in the code, who calls those
//! that are a library's too, and so on. What is called by a pointer the kernel side asks for when it is met.

use std::{collections::HashSet, rc::Rc};

use super::{
    futures::Names,
    program::Program,
    protocol::{MAX_STEPS, Step},
};
use crate::{
    identify::{self, CodeAddress, Module, sites::Owner},
    model::{Frame, Site},
    observe::{
        bpf::tokio_step,
        helper::{Allowance, Who},
        image::Image,
        memory::Memory,
        programs::Placed,
    },
};

/// How many libraries' functions may call one another.
const MAX_DEPTH: usize = 6;
/// What is looked through of all code.
const MAX_CODE: u64 = 512 << 20;
/// `call` and `jmp` to an address that is told by its distance.
const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
const LENGTH: usize = 5;

/// The code of a program.
pub struct Creators<'a> {
    pub who: Who,
    pub placed: &'a Placed<Program>,
    pub module: Rc<Module>,
    pub code: &'a mut identify::Inspector,
    pub memory: &'a mut Memory,
    /// Functions that poll futures: what is outside of them has nothing to do with what they do.
    pub polls: &'a HashSet<u64>,
}

impl Creators<'_> {
    /// How creators are found from these functions on, and from these places, as far as time allows.
    pub fn steps(&mut self, functions: &[u64], places: &[u64], allowance: &Allowance) -> Vec<(u64, Step)> {
        let mut steps = Vec::new();
        let mut seen: HashSet<u64> = functions.iter().copied().collect();
        for at in places {
            if steps.len() >= MAX_STEPS || allowance.is_over() {
                return steps;
            }
            // As if a call returned to amid the instruction: what is looked up is the byte before, which is its first.
            let behind = at.wrapping_add(1);
            let step = self.step(behind);
            steps.push((behind, step));
            if step.flags & (tokio_step::SITE | tokio_step::END) == 0 {
                seen.extend(self.module.function_range(*at).map(|function| function.start));
            }
        }
        if seen.is_empty() {
            return steps;
        }
        let mut targets = seen.clone();
        for _ in 0..MAX_DEPTH {
            let mut next = HashSet::new();
            for branch in branches(&self.placed.program.image, &targets) {
                if steps.len() >= MAX_STEPS || allowance.is_over() {
                    return steps;
                }
                let Some(function) = self.module.function_range(branch.at) else {
                    continue;
                };
                let leads_on = match branch.is_call {
                    // Nobody returns to it.
                    false => !function.contains(&branch.to),
                    true => {
                        let place = branch.at + LENGTH as u64;
                        let step = self.step(place);
                        steps.push((place, step));
                        step.flags & (tokio_step::SITE | tokio_step::END) == 0
                    }
                };
                if leads_on && seen.insert(function.start) {
                    next.insert(function.start);
                }
            }
            if next.is_empty() {
                break;
            }
            targets = next;
        }
        steps
    }

    /// What is to be known of a place that a call returns to.
    pub fn step(&mut self, returns_to: u64) -> Step {
        let nothing = Step {
            flags: tokio_step::END,
            ..Step::default()
        };
        let image = &self.placed.program.image;
        if !image.is_in(returns_to.wrapping_sub(1), |segment| segment.executable) {
            return nothing;
        }
        let mut flags = match self.owner(returns_to) {
            Owner::Own(_) => {
                return Step {
                    flags: tokio_step::SITE,
                    ..Step::default()
                };
            }
            Owner::Library(_) => tokio_step::LIBRARY,
            Owner::Runtime => 0,
        };
        let function = self.module.function_range(returns_to.wrapping_sub(1));
        let is_poll = function.is_some_and(|function| self.polls.contains(&function.start));
        match self.module.plain(returns_to) {
            Some(plain) if !is_poll => {
                if plain.from_bp {
                    flags |= tokio_step::FROM_BP;
                }
                Step {
                    flags,
                    cfa: plain.cfa,
                    bp: plain.bp,
                }
            }
            _ => Step {
                flags: flags | nothing.flags,
                ..nothing
            },
        }
    }

    /// What is told of a place that a call returns to.
    pub fn site(&mut self, returns_to: u64) -> Option<Site> {
        match self.owner(returns_to) {
            Owner::Own(site) | Owner::Library(site) => Some(site),
            Owner::Runtime => None,
        }
    }

    fn owner(&mut self, returns_to: u64) -> Owner {
        let address = CodeAddress::Return(returns_to.wrapping_add(self.placed.bias));
        let frames = self.code.name(self.who.pid, self.who.tid, address);
        let frames: Vec<Frame> = frames.unwrap_or_default();
        let owner = match frames.iter().any(|frame| frame.function.is_some()) {
            true => identify::sites::owner(&frames),
            false => Owner::Runtime,
        };
        if owner != Owner::Runtime || frames.iter().any(|frame| frame.file.is_some()) {
            return owner;
        }
        // Without debug information nobody tells of own code that was put into a library's, and a stripped program of none.
        // What a panic there would tell does.
        let mut names = Names {
            placed: self.placed,
            module: &self.module,
            memory: self.memory,
        };
        names.caller(returns_to).map_or(Owner::Runtime, Owner::Own)
    }
}

/// A call or a jump to one of some functions.
struct Branch {
    at: u64,
    to: u64,
    is_call: bool,
}

/// Where a program's code calls these functions, or goes on there. What only looks like it is among them.
fn branches(image: &Image, targets: &HashSet<u64>) -> Vec<Branch> {
    let mut found = Vec::new();
    image.code(LENGTH - 1, MAX_CODE, |bytes, at| {
        scan(bytes, at, targets, &mut found)
    });
    found
}

fn scan(bytes: &[u8], base: u64, targets: &HashSet<u64>, found: &mut Vec<Branch>) {
    for at in memchr::memchr2_iter(CALL, JUMP, bytes) {
        let Some([opcode, distance @ ..]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<LENGTH>())
        else {
            return;
        };
        let address = base.wrapping_add(at as u64);
        let distance = i64::from(i32::from_le_bytes(*distance));
        let to = address.wrapping_add(LENGTH as u64).wrapping_add_signed(distance);
        if targets.contains(&to) {
            found.push(Branch {
                at: address,
                to,
                is_call: *opcode == CALL,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_jumps_are_found_by_where_they_go() {
        // nop; call 0x2000; jmp 0x2000; call 0x2001; and one that is cut off.
        let mut code = vec![0x90, CALL];
        code.extend((0x2000_i32 - 0x1006).to_le_bytes());
        code.push(JUMP);
        code.extend((0x2000_i32 - 0x100b).to_le_bytes());
        code.push(CALL);
        code.extend((0x2001_i32 - 0x1010).to_le_bytes());
        code.extend([CALL, 0, 0]);
        let mut found = Vec::new();
        scan(&code, 0x1000, &HashSet::from([0x2000]), &mut found);
        let found: Vec<_> = found
            .iter()
            .map(|branch| (branch.at, branch.to, branch.is_call))
            .collect();
        assert_eq!(found, [(0x1001, 0x2000, true), (0x1006, 0x2000, false)]);
    }
}
