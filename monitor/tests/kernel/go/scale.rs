//! Many goroutines.

use testbed::go::Flavor;

use super::bed::{assert_same, groups, look, seen, start};

#[test]
fn a_hundred_thousand_are_counted_to_the_last() {
    let scenarios = ["chan_receive=40000", "mutex=35000", "select=25000", "ticker=100"];
    let Some(target) = start("go::scale", "1.27", Flavor::Plain, &scenarios) else {
        return;
    };
    let process = look(&target);
    assert!(process.incomplete().is_empty(), "{:?}", process.incomplete());
    let expected = [
        (
            "chan receive",
            "internal",
            "main.chanReceiveForever",
            "main.leakChanReceive",
            "main.spawnChanReceive",
            40_000,
        ),
        (
            "sync.Mutex.Lock",
            "internal",
            "main.mutexForever",
            "main.leakMutex",
            "main.spawnMutex",
            35_000,
        ),
        (
            "select",
            "internal",
            "main.selectForever",
            "main.leakSelect",
            "main.spawnSelect",
            25_000,
        ),
    ];
    assert_same(&seen(&process), &groups(&expected), "1.27");
}
