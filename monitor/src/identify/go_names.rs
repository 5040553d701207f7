//! Names for the code of Go programs that have no symbols: the table that Go's runtime unwinds by is in them all the same.

use std::cell::OnceCell;

use super::{
    demangle::MAX_NAME,
    file::open_mapped,
    maps::Code,
    symbols::{Call, Named},
    text::clean,
};
use crate::observe::{
    go::{Pclntab, table},
    image::Image,
    memory::Memory,
};

/// The table of one file, looked for when it is first asked for.
#[derive(Default)]
pub struct GoNames(OnceCell<Option<Pclntab<Image>>>);

impl GoNames {
    /// What is at an address of the file, which the process that the live thread `tid` belongs to has mapped as `code`, so
    /// far behind the file's own addresses.
    pub fn name(&self, tid: u32, code: &Code, bias: u64, address: u64) -> Option<Named> {
        let functions = self.0.get_or_init(|| {
            let file = open_mapped(tid, code.range.start, code.range.end).ok()?;
            table::functions(Image::parse(file)?, bias, &mut Memory::of(tid).ok()?)
        });
        let functions = functions.as_ref()?;
        let function = functions.function(address)?;
        let text = |text: &str| clean(text, MAX_NAME);
        let calls = functions.calls(&function, address).into_iter().map(|call| Call {
            function: Some(text(&call.function)).filter(|name| !name.is_empty()),
            file: call.file.as_deref().map(text),
            line: call.line,
            inlined: call.inlined,
        });
        Some(Named {
            calls: calls.collect(),
            start: Some(function.entry),
        })
    }
}
