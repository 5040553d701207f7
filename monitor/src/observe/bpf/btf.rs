//! Struct offsets of the running kernel, from its BTF (`/sys/kernel/btf/vmlinux`).
//!
//! aya parses BTF too, but does not let its callers look at the types. This reader keeps one index of type
//! positions and nothing else. Format: Documentation/bpf/btf.rst; little-endian only, as the kernels we run on.

use std::collections::HashMap;

use monitor_common::TaskOffsets;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Kinds that only wrap another type: typedef, volatile, const, restrict, type tag.
const WRAPPERS: [u32; 5] = [8, 9, 10, 11, 18];
/// Deepest nesting of anonymous members and wrappers that is followed.
const MAX_DEPTH: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("the kernel's BTF is malformed at {0}")]
    Malformed(&'static str),
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// The types of a kernel.
pub struct KernelTypes<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Position of type `id` at `id − 1`.
    positions: Vec<u32>,
    structs: HashMap<&'a [u8], u32>,
}

struct Type {
    kind: u32,
    member_count: usize,
    /// Bit 31 of `info`: members hold a bit-field size in the top byte of their offset.
    has_bitfields: bool,
    size_or_type: u32,
    members_at: usize,
}

impl<'a> KernelTypes<'a> {
    /// # Errors
    /// When the data is not BTF or ends early.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        let word = |at| read_u32(data, at).ok_or(BtfError::Malformed("header"));
        if data.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::Malformed("magic"));
        }
        let header = word(4)? as usize;
        let section = |offset: u32, length: u32| {
            let start = header.checked_add(offset as usize)?;
            data.get(start..start.checked_add(length as usize)?)
        };
        let types = section(word(8)?, word(12)?).ok_or(BtfError::Malformed("type section"))?;
        let strings = section(word(16)?, word(20)?).ok_or(BtfError::Malformed("string section"))?;
        let mut this = Self {
            types,
            strings,
            positions: Vec::new(),
            structs: HashMap::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let ty = this.type_at(at).ok_or(BtfError::Malformed("type"))?;
            this.positions.push(at as u32);
            if ty.kind == KIND_STRUCT {
                let name = this.name(read_u32(types, at).unwrap_or(0));
                this.structs.entry(name).or_insert(this.positions.len() as u32);
            }
            at = ty.members_at + tail_length(&ty).ok_or(BtfError::Malformed("kind"))?;
        }
        Ok(this)
    }

    /// Byte offset of a member; `path` goes through nested structs with dots, anonymous ones are looked through.
    ///
    /// # Errors
    /// When the struct or the member does not exist in this kernel.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("{structure}.{path}"));
        let mut id = *self.structs.get(structure.as_bytes()).ok_or_else(missing)?;
        let mut offset = 0;
        for member in path.split('.') {
            let (at, member_type) = self.member(id, member.as_bytes(), 0).ok_or_else(missing)?;
            offset += at;
            id = self.resolve(member_type).ok_or_else(missing)?;
        }
        Ok(offset)
    }

    /// Size of a struct in bytes.
    ///
    /// # Errors
    /// When it does not exist in this kernel.
    pub fn size(&self, structure: &str) -> Result<u32, BtfError> {
        let id = self.structs.get(structure.as_bytes());
        id.and_then(|id| self.get(*id))
            .map(|ty| ty.size_or_type)
            .ok_or_else(|| BtfError::Missing(format!("struct {structure}")))
    }

    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let ty = self.get(id)?;
        if !matches!(ty.kind, KIND_STRUCT | KIND_UNION) || depth > MAX_DEPTH {
            return None;
        }
        for index in 0..ty.member_count {
            let at = ty.members_at + index * 12;
            let member_type = read_u32(self.types, at + 4)?;
            let bits = read_u32(self.types, at + 8)?;
            let bits = if ty.has_bitfields {
                bits & 0x00ff_ffff
            } else {
                bits
            };
            let member_name = self.name(read_u32(self.types, at)?);
            if member_name == name {
                return Some((bits / 8, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self
                    .resolve(member_type)
                    .and_then(|id| self.member(id, name, depth + 1))
            {
                return Some((bits / 8 + inner, found));
            }
        }
        None
    }

    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let ty = self.get(id)?;
            if !WRAPPERS.contains(&ty.kind) {
                break;
            }
            id = ty.size_or_type;
        }
        Some(id)
    }

    fn get(&self, id: u32) -> Option<Type> {
        self.type_at(*self.positions.get(id.checked_sub(1)? as usize)? as usize)
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = read_u32(self.types, at + 4)?;
        Some(Type {
            kind: info >> 24 & 0x1f,
            member_count: (info & 0xffff) as usize,
            has_bitfields: info >> 31 == 1,
            size_or_type: read_u32(self.types, at + 8)?,
            members_at: at + 12,
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
    }
}

/// Length of what follows a type's 12 common bytes; `None` for kinds that this reader does not know.
fn tail_length(ty: &Type) -> Option<usize> {
    let count = ty.member_count;
    Some(match ty.kind {
        1 | 14 | 17 => 4, // int, var, decl tag
        3 => 12,          // array
        KIND_STRUCT | KIND_UNION => count * 12,
        6 => count * 8,            // enum
        13 => count * 8,           // function prototype
        15 => count * 12,          // data section
        19 => count * 12,          // 64-bit enum
        2 | 7..=12 | 16 | 18 => 0, // pointer, forward, wrappers, function, float, type tag
        _ => return None,
    })
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        data.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Everything that the programs need to know of this kernel.
///
/// # Errors
/// When the BTF is malformed, or a field does not exist in this kernel.
pub fn task_offsets(btf: &[u8]) -> Result<TaskOffsets, BtfError> {
    let types = KernelTypes::parse(btf)?;
    let task = |path| types.offset("task_struct", path);
    Ok(TaskOffsets {
        pid: task("pid")?,
        tgid: task("tgid")?,
        flags: task("flags")?,
        // Called `state` until 5.13.
        state: task("__state").or_else(|_| task("state"))?,
        exit_state: task("exit_state")?,
        jobctl: task("jobctl")?,
        on_cpu: task("on_cpu")?,
        policy: task("policy")?,
        nvcsw: task("nvcsw")?,
        nivcsw: task("nivcsw")?,
        last_arrival: task("sched_info.last_arrival")?,
        sum_exec_runtime: task("se.sum_exec_runtime")?,
        prev_sum_exec_runtime: task("se.prev_sum_exec_runtime")?,
        // Called `real_start_time` until 5.4.
        start_boottime: task("start_boottime")?,
        self_exec_id: task("self_exec_id")?,
        comm: task("comm")?,
        group_leader: task("group_leader")?,
        thread_pid: task("thread_pid")?,
        signal: task("signal")?,
        restart_fn: task("restart_block.fn")?,
        thread_status: task("thread_info.status")?,
        fsbase: task("thread.fsbase")?,
        pid_level: types.offset("pid", "level")?,
        pid_numbers: types.offset("pid", "numbers")?,
        upid_size: types.size("upid")?,
        signal_live: types.offset("signal_struct", "live")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One struct `outer { int a; union { struct { int b; int c; }; }; }` and its parts, by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0";
        let (int, outer, a, b, c) = (1u32, 5u32, 11u32, 13u32, 15u32);
        let info = |kind: u32, count: u32| kind << 24 | count;
        let words: Vec<u32> = [
            vec![int, info(1, 0), 4, 0],
            vec![0, info(KIND_STRUCT, 2), 8, b, 1, 0, c, 1, 32],
            vec![0, info(KIND_UNION, 1), 8, 0, 2, 0],
            vec![outer, info(KIND_STRUCT, 2), 12, a, 1, 0, 0, 3, 32],
        ]
        .concat();
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut data = Vec::from(MAGIC.to_le_bytes());
        data.extend([1, 0]);
        for word in [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            data.extend(word.to_le_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn looks_through_anonymous_members() {
        let data = sample();
        let types = KernelTypes::parse(&data).unwrap();
        assert_eq!(types.offset("outer", "a").unwrap(), 0);
        assert_eq!(types.offset("outer", "b").unwrap(), 4);
        assert_eq!(types.offset("outer", "c").unwrap(), 8);
        assert_eq!(types.size("outer").unwrap(), 12);
    }

    #[test]
    fn names_what_is_missing() {
        let data = sample();
        let types = KernelTypes::parse(&data).unwrap();
        assert_eq!(
            types.offset("outer", "z").unwrap_err().to_string(),
            "this kernel has no outer.z"
        );
        assert_eq!(
            types.offset("inner", "a").unwrap_err().to_string(),
            "this kernel has no inner.a"
        );
    }

    #[test]
    fn every_truncation_is_an_error_or_a_smaller_kernel() {
        let data = sample();
        for length in 0..data.len() {
            if let Ok(types) = KernelTypes::parse(&data[..length]) {
                let _ = types.offset("outer", "c");
            }
        }
        assert!(KernelTypes::parse(b"not BTF at all, but long enough").is_err());
    }
}
