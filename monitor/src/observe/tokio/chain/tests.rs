use super::*;

fn node(depth: u16) -> Node {
    Node {
        of_type: 0,
        state: None,
        depth,
        holds: Holds::Nothing,
    }
}

fn told(name: &str) -> Told {
    Told {
        name: name.to_owned(),
        at: Line::default(),
        is_own: name.starts_with("app::"),
        has_begun: true,
        holds: if name.starts_with("world::") {
            Holds::World
        } else {
            Holds::Nothing
        },
    }
}

fn trace(names: &[(&str, u16)], together: Option<Together>) -> (Trace, Vec<Told>) {
    let trace = Trace {
        nodes: names.iter().map(|(_, depth)| node(*depth)).collect(),
        together,
        is_cut: false,
    };
    (trace, names.iter().map(|(name, _)| told(name)).collect())
}

fn wait(names: &[(&str, u16)], together: Option<Together>) -> Option<(String, WaitClass)> {
    let (trace, told) = trace(names, together);
    let (_, inside) = shown(&trace.nodes, &told);
    waits(&trace, &told, inside)
}

fn said(names: &[(&str, u16)], together: Option<Together>) -> Option<String> {
    wait(names, together).map(|(word, _)| word)
}

#[test]
fn the_trunk_ends_where_several_are_awaited() {
    let depths = |depths: &[u16]| trunk(&depths.iter().map(|depth| node(*depth)).collect::<Vec<_>>());
    assert_eq!(depths(&[0, 1, 2]), 3);
    assert_eq!(depths(&[0, 1, 3, 4, 3, 4]), 2);
    assert_eq!(depths(&[0, 1, 1]), 1);
    assert_eq!(depths(&[]), 0);
}

#[test]
fn a_wait_is_what_the_program_calls_of_tokios() {
    let lock = [
        ("app::f", 0),
        ("tokio::sync::mutex::lock", 1),
        ("tokio::sync::batch_semaphore::Acquire", 2),
    ];
    assert_eq!(said(&lock, None).as_deref(), Some("Mutex::lock"));
    let library = [
        ("app::f", 0),
        ("hyper::g", 1),
        ("tokio::sync::notify::Notified", 2),
    ];
    assert_eq!(said(&library, None).as_deref(), Some("Notified"));
    assert_eq!(
        said(&[("app::f", 0), ("app::jobs::Queue", 1)], None).as_deref(),
        Some("jobs::Queue")
    );
}

#[test]
fn several_waits_are_one_and_a_timer_ends_them_all() {
    let mut two = vec![
        ("app::f", 0),
        ("tokio::sync::notify::Notified", 2),
        ("app::g", 2),
        ("tokio::sync::oneshot::Receiver<u8>", 3),
    ];
    assert_eq!(said(&two, Some(Together::Select)).as_deref(), Some("select!"));
    assert_eq!(said(&two, Some(Together::Join)).as_deref(), Some("join!"));
    assert_eq!(said(&two, None).as_deref(), Some("Notified or oneshot::Receiver"));
    two.push(("tokio::time::sleep::Sleep", 2));
    assert_eq!(said(&two, Some(Together::Select)), None);
    assert_eq!(
        said(&[("app::f", 0)], Some(Together::Join)).as_deref(),
        Some("app::f")
    );
}

/// A server's connection, in which a handler waits, and its end, of which somebody tells.
const SERVED: [(&str, u16); 6] = [
    ("server::serve", 0),
    ("app::report", 2),
    ("app::query", 3),
    ("tokio::sync::oneshot::Receiver<u8>", 4),
    ("tokio::sync::watch::closed<()>", 2),
    ("tokio::sync::notify::Notified", 3),
];

#[test]
fn of_a_servers_several_waits_that_of_the_programs_own_is_told() {
    let (trace, told) = trace(&SERVED, Some(Together::Select));
    assert_eq!(shown(&trace.nodes, &told), (vec![0, 1, 2, 3], 1..4));
    let select = Some(Together::Select);
    assert_eq!(
        wait(&SERVED, select),
        Some(("oneshot::Receiver".to_owned(), WaitClass::Internal))
    );
    // The timer of another branch ends it all the same.
    let mut ends = SERVED;
    ends[5].0 = "tokio::time::sleep::Sleep";
    assert_eq!(wait(&ends, select), None);
    // Of two nobody knows which one matters.
    let mut two = SERVED;
    two[5].0 = "app::stop";
    assert_eq!(
        wait(&two, select),
        Some(("select!".to_owned(), WaitClass::Internal))
    );
    // What is the program's own from the beginning is told as far as it is one.
    let mut own = SERVED;
    own[0].0 = "app::serve";
    let (own, told) = self::trace(&own, select);
    assert_eq!(shown(&own.nodes, &told), (vec![0], 0..6));
}

#[test]
fn what_the_world_may_end_waits_for_the_world() {
    let idle = [
        ("server::serve", 0),
        ("world::Connection", 2),
        ("tokio::sync::watch::closed<()>", 2),
    ];
    let class = |together| wait(&idle, together).map(|(_, class)| class);
    assert_eq!(class(Some(Together::Select)), Some(WaitClass::External));
    assert_eq!(class(None), Some(WaitClass::External));
    assert_eq!(class(Some(Together::Join)), Some(WaitClass::Internal));
    assert_eq!(
        wait(&idle[..2], None),
        Some(("world::Connection".to_owned(), WaitClass::External))
    );
}
