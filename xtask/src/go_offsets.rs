//! `cargo xtask go-offsets GO_BINARY`: the entry of `monitor/src/observe/go/offsets.rs` for the version of Go that
//! made a binary, read from its debug information.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gimli::{AttributeValue, EndianSlice, LittleEndian};
use object::{Object as _, ObjectSection as _};

/// Members by name, with their offsets, and the size.
#[derive(Default)]
struct Structure {
    size: u64,
    members: HashMap<String, u64>,
}

/// Where each field of the entry is: the structure, and the member, or what other versions call it; `None` stands for the
/// structure's size.
const FIELDS: [(&str, &str, Option<&str>); 36] = [
    ("size", "runtime.g", None),
    ("status", "runtime.g", Some("atomicstatus")),
    ("goid", "runtime.g", Some("goid")),
    ("wait_since", "runtime.g", Some("waitsince")),
    ("wait_reason", "runtime.g", Some("waitreason")),
    ("tracking_seq", "runtime.g", Some("trackingSeq")),
    ("gopc", "runtime.g", Some("gopc")),
    ("startpc", "runtime.g", Some("startpc")),
    ("parent", "runtime.g", Some("parentGoid")),
    ("locked_m", "runtime.g", Some("lockedm")),
    ("m", "runtime.g", Some("m")),
    ("sched", "runtime.g", Some("sched")),
    ("gobuf_bp", "runtime.gobuf", Some("bp")),
    ("syscall_sp", "runtime.g", Some("syscallsp")),
    ("syscall_pc", "runtime.g", Some("syscallpc")),
    ("syscall_bp", "runtime.g", Some("syscallbp")),
    ("procid", "runtime.m", Some("procid")),
    ("module_text", "runtime.moduledata", Some("text")),
    ("module_gofunc", "runtime.moduledata", Some("gofunc")),
    ("waiting", "runtime.g", Some("waiting")),
    ("sudog_next", "runtime.sudog", Some("waitlink")),
    ("sudog_chan", "runtime.sudog", Some("c")),
    ("chan_timer", "runtime.hchan", Some("timer")),
    ("timer_when", "runtime.timer", Some("when")),
    ("timer_arg", "runtime.timer", Some("arg")),
    ("timer_status", "runtime.timer", Some("status")),
    ("p_timers", "runtime.p", Some("timers")),
    ("timers_heap", "runtime.timers", Some("heap")),
    ("labels", "runtime.g", Some("labels")),
    ("bubble", "runtime.g", Some("bubble|syncGroup")),
    ("bubble_id", "runtime.synctestBubble", Some("id")),
    ("bubble_root", "runtime.synctestGroup", Some("root")),
    ("poll_rg", "runtime.pollDesc", Some("rg")),
    ("poll_wg", "runtime.pollDesc", Some("wg")),
    ("poll_rd", "runtime.pollDesc", Some("rd")),
    ("poll_wd", "runtime.pollDesc", Some("wd")),
];
/// What some versions do not have.
const OPTIONAL: [&str; 8] = [
    "parent",
    "syscall_bp",
    "chan_timer",
    "timer_status",
    "timers_heap",
    "bubble",
    "bubble_id",
    "bubble_root",
];

pub fn print(binary: &Path) -> Result<()> {
    let (version, fields) = read(binary)?;
    println!("// {version}");
    println!("(\n    &[{}],\n    Offsets {{", minor(&version)?);
    for (field, offset) in fields {
        println!("        {field}: {offset},");
    }
    println!("    }},\n),");
    Ok(())
}

/// `go1.27.3` → `27`.
fn minor(version: &str) -> Result<&str> {
    let rest = version.split("go1.").nth(1);
    let digits = rest.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    digits.with_context(|| format!("no version of Go 1: {version:?}"))
}

/// The version of Go, and the fields of its entry in their order.
fn read(binary: &Path) -> Result<(String, Vec<(&'static str, u64)>)> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let file = object::File::parse(&*bytes).context("no object file")?;
    let load = |id: gimli::SectionId| -> Result<Cow<'_, [u8]>> {
        match file.section_by_name(id.name()) {
            Some(section) => Ok(section.uncompressed_data()?),
            None => Ok(Cow::Borrowed(&[])),
        }
    };
    let sections = gimli::DwarfSections::load(load)?;
    let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    let mut structures: HashMap<&str, Structure> = HashMap::new();
    let mut version = None;
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        collect(&dwarf, &unit, &mut structures, &mut version)?;
    }
    let version = version.with_context(|| format!("{}: no debug information of Go's", binary.display()))?;
    let mut fields = Vec::new();
    for (field, structure, member) in FIELDS {
        let is_optional = OPTIONAL.contains(&field);
        let found = structures.get(structure);
        if found.is_none() && !is_optional {
            bail!(
                "{version}: no {structure} (does the binary use it? a program with network connections does)"
            );
        }
        let offset = found.and_then(|found| match member {
            None => Some(found.size),
            Some(names) => names.split('|').find_map(|name| found.members.get(name).copied()),
        });
        let offset = offset.or_else(|| is_optional.then_some(0));
        let what = || format!("{version}: no {}.{}", structure, member.unwrap_or("size"));
        fields.push((field, offset.with_context(what)?));
    }
    Ok((version, fields))
}

type Reader<'a> = EndianSlice<'a, LittleEndian>;

fn collect<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    structures: &mut HashMap<&'static str, Structure>,
    version: &mut Option<String>,
) -> Result<()> {
    let text = |value: AttributeValue<Reader<'a>>| -> Result<String> {
        Ok(dwarf.attr_string(unit, value)?.to_string_lossy().into_owned())
    };
    let mut entries = unit.entries();
    // The structure whose members come now, and the depth of these.
    let mut current: Option<(&'static str, isize)> = None;
    while let Some(entry) = entries.next_dfs()? {
        let depth = entry.depth();
        if current.is_some_and(|(_, members)| depth < members) {
            current = None;
        }
        let name = entry.attr_value(gimli::DW_AT_name).map(text).transpose()?;
        match entry.tag() {
            gimli::DW_TAG_compile_unit => {
                let producer = entry.attr_value(gimli::DW_AT_producer).map(text).transpose()?;
                let go = producer
                    .as_deref()
                    .and_then(|it| it.strip_prefix("Go cmd/compile "));
                if let Some(said) = go.and_then(|it| it.split([';', ' ']).next()) {
                    version.get_or_insert_with(|| said.to_owned());
                }
            }
            gimli::DW_TAG_structure_type => {
                let wanted = FIELDS.iter().map(|(_, structure, _)| *structure);
                let known = wanted.into_iter().find(|it| Some(*it) == name.as_deref());
                if let Some(known) = known {
                    let size = entry.attr_value(gimli::DW_AT_byte_size);
                    let size = size.and_then(|size| size.udata_value()).unwrap_or_default();
                    structures.entry(known).or_default().size = size;
                    current = Some((known, depth + 1));
                }
            }
            gimli::DW_TAG_member => {
                if let (Some((structure, members)), Some(name)) = (current, name)
                    && members == depth
                {
                    let offset = entry.attr_value(gimli::DW_AT_data_member_location);
                    let offset = offset.and_then(|offset| offset.udata_value()).unwrap_or_default();
                    structures
                        .entry(structure)
                        .or_default()
                        .members
                        .insert(name, offset);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use testbed::go::{self, Flavor};

    use super::*;

    /// The entries that taskleak has are those that the toolchains' own debug information gives.
    #[test]
    fn the_table_is_what_the_toolchains_say() {
        let table = crate::workspace::root().join("monitor/src/observe/go/offsets.rs");
        let table = fs::read_to_string(table).unwrap();
        let mut missing = String::new();
        for version in go::versions() {
            let built = go::build(version, Flavor::Plain);
            let name = format!("go_offsets (Go {version})");
            let Some(command) = testbed::or_skip(&name, built).unwrap() else {
                continue;
            };
            let (said, fields) = read(Path::new(command.get_program())).unwrap();
            assert_eq!(minor(&said).unwrap(), go::minor(version).to_string());
            let lines: Vec<String> = fields
                .iter()
                .map(|(field, offset)| format!("            {field}: {offset},"))
                .collect();
            let entry = format!(
                "        &[{}],\n        Offsets {{\n{}\n",
                go::minor(version),
                lines.join("\n")
            );
            if !table.contains(&entry) {
                missing += &format!("// {said}\n{entry}");
            }
        }
        assert!(missing.is_empty(), "not in the table:\n{missing}");
    }

    #[test]
    fn what_is_no_go_program_has_no_entry() {
        assert!(read(Path::new("/proc/self/exe")).is_err());
        assert!(read(Path::new("/dev/null")).is_err());
        assert!(minor("go2.1").is_err());
        assert_eq!(minor("go1.28-devel_abc").unwrap(), "28");
    }
}
