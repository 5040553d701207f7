//! Names of functions, taken apart: Rust's and C++'s, as demanglers write them.

/// Without what tells overloads and builds apart: C++'s return type, parameters and clones, Rust's hash.
pub fn short(function: &str) -> String {
    let name = without_hash(function);
    match signature(name) {
        Some(end) => without_return_type(name.get(..end).unwrap_or(name)).to_owned(),
        None => name.to_owned(),
    }
}

/// Crate or outermost namespace: of `<a::B as c::D>::e` it is `a`, of `void a::b<c::D>(e::F)` too.
pub fn root(function: &str) -> &str {
    let name = match signature(function) {
        Some(end) => without_return_type(function.get(..end).unwrap_or(function)),
        None => function,
    };
    // What comes before a type's path: `<`, `&mut`, `dyn`.
    let mut name = name.trim_start_matches(['<', '&', '*', '(', '[', ' ']);
    for word in ["mut ", "const ", "dyn ", "impl "] {
        name = name.strip_prefix(word).unwrap_or(name);
    }
    let end = name
        .find(|character: char| !character.is_alphanumeric() && character != '_')
        .unwrap_or(name.len());
    let (root, rest) = name.split_at(end);
    // `<T as a::B>::c`: a parameter has no path, the trait tells more.
    match rest.strip_prefix(" as ") {
        Some(rest) if function.starts_with('<') => crate::identify::sites::names::root(rest),
        _ => root,
    }
}

/// `…::h0123456789abcdef`.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest,
        _ => name,
    }
}

/// Where the parameters of a C++ function begin. `None` when it has none written.
fn signature(name: &str) -> Option<usize> {
    let bytes = name.as_bytes();
    let rest = |at: usize| bytes.get(at..).unwrap_or_default();
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'o' if depth == 0 && rest(at).starts_with(b"operator") => {
                at += operator_length(rest(at));
                continue;
            }
            // The arrow of a Rust function type.
            b'-' if rest(at).starts_with(b"->") => at += 1,
            b'<' | b'{' | b'[' => depth += 1,
            b'>' | b'}' | b']' => depth = depth.saturating_sub(1),
            b'(' if depth == 0 => {
                let end = at + closing(rest(at))?;
                // A function within a function, a namespace without a name, a type that is worked out.
                let scope = rest(end).strip_prefix(b" const".as_slice()).unwrap_or(rest(end));
                let is_scope = scope.starts_with(b"::");
                if !is_scope && !name.get(..at)?.trim_end().ends_with("decltype") {
                    return Some(at);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Length of `operator` and what it is called: `operator()`, `operator<<`, `operator bool`.
fn operator_length(name: &[u8]) -> usize {
    const WORD: usize = b"operator".len();
    let rest = name.get(WORD..).unwrap_or_default();
    if rest.starts_with(b"()") {
        return WORD + 2;
    }
    let symbols = rest
        .iter()
        .take_while(|byte| b"<>=!+-*/%^&|~,[]".contains(byte))
        .count();
    WORD + symbols
}

/// How far it is from an opening parenthesis to behind its closing one.
fn closing(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// `void a::b` → `a::b`: what is behind the last space that is not within brackets, nor part of an operator's name.
fn without_return_type(name: &str) -> &str {
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, character) in name.char_indices() {
        match character {
            '<' | '{' | '[' | '(' => depth += 1,
            '>' | '}' | ']' | ')' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                let before = name.get(start..at).unwrap_or_default();
                if before.ends_with("operator") {
                    return name.get(start..).unwrap_or(name);
                }
                start = at + 1;
            }
            _ => {}
        }
        // `operator<` opens nothing.
        if name
            .get(start..=at)
            .is_some_and(|text| text.ends_with("operator"))
        {
            return name.get(start..).unwrap_or(name);
        }
    }
    name.get(start..).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_shortened() {
        let pairs = [
            ("mutex_acquire_forever", "mutex_acquire_forever"),
            ("Pool::acquire(int, std::string const&)", "Pool::acquire"),
            (
                "void std::__detail::__wait<int>(int const*, int)",
                "std::__detail::__wait<int>",
            ),
            ("(anonymous namespace)::run(int)", "(anonymous namespace)::run"),
            (
                "a::(anonymous namespace)::run() const",
                "a::(anonymous namespace)::run",
            ),
            (
                "hold<f()::{lambda()#1}>(f()::{lambda()#1})::{lambda()#2}::operator()() const",
                "hold<f()::{lambda()#1}>(f()::{lambda()#1})::{lambda()#2}::operator()",
            ),
            (
                "std::ostream& operator<< <char>(std::ostream&, char)",
                "operator<< <char>",
            ),
            ("a::B::operator bool() const", "a::B::operator bool"),
            ("bool a::operator<(a::B const&, a::B const&)", "a::operator<"),
            ("decltype (f(1)) g<int>(int)", "g<int>"),
            ("f(void (*)(int)) [clone .cold]", "f"),
            (
                "std::function<void (int)>::operator()(int) const",
                "std::function<void (int)>::operator()",
            ),
            ("app::pool::Pool::get::h0123456789abcdef", "app::pool::Pool::get"),
            ("app::spawn::{{closure}}", "app::spawn::{{closure}}"),
            (
                "<alloc::boxed::Box<dyn FnOnce() -> u8> as core::ops::FnOnce<()>>::call_once",
                "<alloc::boxed::Box<dyn FnOnce() -> u8> as core::ops::FnOnce<()>>::call_once",
            ),
            ("operator()", "operator()"),
            ("cut off<in the middle(…", "cut off<in the middle(…"),
            ("", ""),
        ];
        for (long, expected) in pairs {
            assert_eq!(short(long), expected, "{long}");
        }
    }

    #[test]
    fn the_root_of_a_path_is_found() {
        let pairs = [
            ("std::thread::park", "std"),
            ("<std::thread::Thread>::park", "std"),
            (
                "<alloc::boxed::Box<F> as core::ops::FnOnce<A>>::call_once",
                "alloc",
            ),
            ("<&mut app::Reader as std::io::Read>::read", "app"),
            ("<dyn core::any::Any>::is", "core"),
            ("<T as tokio::task::Wait>::wait", "tokio"),
            ("void std::__invoke<void (*)()>(void (*&&)())", "std"),
            ("__invoke_impl<void, f()::<lambda()> >", "__invoke_impl"),
            ("leak_mutex", "leak_mutex"),
            ("operator()", "operator"),
            ("boost::asio::io_context::run()", "boost"),
            ("", ""),
        ];
        for (name, expected) in pairs {
            assert_eq!(root(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken(name in "[a-z:<>(){}\\[\\] &*,#é-]{0,60}") {
            prop_assert!(short(&name).len() <= name.len());
            prop_assert!(root(&name).len() <= name.len());
        }

        #[test]
        fn any_nesting_is_taken(name in "(<|as |operator|decltype|\\(|\\)|>|::| |x|const|->){0,40}") {
            short(&name);
            root(&name);
        }
    }
}
