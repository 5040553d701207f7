//! What is answered of who makes tasks.

use std::{rc::Rc, sync::Arc};

use super::{Inspector, STEP, memory};
use crate::{
    identify,
    observe::{
        helper::{Allowance, Who},
        programs::Unknown,
        thread::spawns::Origin,
        tokio::{
            births::{self, Functions},
            creators::Creators,
            protocol::{Births, MAX_NAMED, Step},
        },
    },
};

/// Functions of a program that put tasks into lists, and how their callers are found.
pub struct Makers {
    functions: Functions,
    steps: Vec<(u64, Step)>,
}

impl Inspector {
    pub(super) fn births(
        &mut self,
        who: Who,
        code: &mut identify::Inspector,
    ) -> Result<Option<Births>, Unknown> {
        let number = self.program(who)?.program.number;
        let known = self.makers.get(&number).cloned();
        let allowance = Allowance::of(STEP);
        let found = self.creators(who, code, |creators| {
            let makers = known.unwrap_or_else(|| {
                let functions = Functions::find(&creators.placed.program.image, &creators.module);
                let (called, amid) = functions.makers();
                let steps = creators.steps(&called, &amid, &allowance);
                Rc::new(Makers { functions, steps })
            });
            let births = births::find(who, creators.placed, &makers.functions, creators.memory);
            let births = births.map(|births| Births {
                steps: makers.steps.clone(),
                ..births
            });
            (makers, births)
        })?;
        let Some((makers, births)) = found else {
            return Ok(None);
        };
        self.makers.insert(number, makers, 0);
        Ok(births)
    }

    pub(super) fn steps(
        &mut self,
        who: Who,
        places: &[u64],
        code: &mut identify::Inspector,
    ) -> Result<Vec<Step>, Unknown> {
        let steps = self.creators(who, code, |creators| {
            let places = places.iter().take(MAX_NAMED);
            places.map(|place| creators.step(*place)).collect()
        })?;
        Ok(steps.unwrap_or_default())
    }

    pub(super) fn origins(
        &mut self,
        who: Who,
        places: &[(u64, u64)],
        code: &mut identify::Inspector,
    ) -> Result<Vec<Origin>, Unknown> {
        let places = &places[..places.len().min(MAX_NAMED)];
        let mut origins = Vec::with_capacity(places.len());
        for (place, vtable) in places {
            let entry = match vtable {
                0 => None,
                vtable => self.futures(who, &[*vtable], code)?.pop().flatten(),
            };
            let spawn_site = match place {
                0 => None,
                place => self
                    .creators(who, code, |creators| creators.site(*place))?
                    .flatten(),
            };
            origins.push(Origin {
                entry: entry.map(Arc::new),
                spawn_site: spawn_site.map(Arc::new),
            });
        }
        Ok(origins)
    }

    /// `None` when nothing is known of a program's code.
    fn creators<T>(
        &mut self,
        who: Who,
        code: &mut identify::Inspector,
        ask: impl FnOnce(&mut Creators<'_>) -> T,
    ) -> Result<Option<T>, Unknown> {
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let at = placed.program.any_poll().wrapping_add(placed.bias);
        let Some(module) = code.module(who.pid, who.tid, at) else {
            return Ok(None);
        };
        Ok(Some(ask(&mut Creators {
            who,
            placed: &placed,
            module,
            code,
            memory: &mut memory,
            polls: &placed.program.polls(),
        })))
    }
}
