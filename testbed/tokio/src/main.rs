//! Tasks of tokio that are stuck for good, and healthy ones: `NAME=COUNT` starts so many of a kind, says `ready`, and
//! stays. `workers=N` is how many threads run them (0: one runtime of the current thread), `runtimes=N` how many
//! runtimes there are, each with all of the tasks. With a path in `TASKS_SOCKET` it answers there what a test or a bench asks
//! (`served`).

mod ended;
mod healthy;
mod made;
mod served;
mod stuck;

use std::{env, thread, time::Duration};

use tokio::runtime::{Builder, Runtime};

fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().unwrap()
}

fn start(scenarios: &[(String, usize)]) {
    for (name, count) in scenarios {
        let is_known = stuck::start(name, *count)
            || healthy::start(name, *count)
            || made::start(name, *count)
            || ended::start(name, *count);
        if !is_known {
            eprintln!("there is no {name}");
            std::process::exit(2);
        }
    }
}

fn main() {
    #[cfg(console)]
    console_subscriber::init();
    let (mut workers, mut runtimes) = (2, 1);
    let mut scenarios = Vec::new();
    for argument in env::args().skip(1) {
        let (name, count) = argument.split_once('=').unwrap();
        let count = count.parse().unwrap();
        match name {
            "workers" => workers = count,
            "runtimes" => runtimes = count,
            _ => scenarios.push((name.to_owned(), count)),
        }
    }
    for number in 1..=runtimes {
        let runtime = runtime(workers);
        let scenarios = scenarios.clone();
        let run = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                start(&scenarios);
                if number == runtimes {
                    served::start();
                }
                // Every task has been polled by then.
                tokio::time::sleep(Duration::from_millis(300)).await;
                if number == runtimes {
                    println!("ready");
                }
                // Its timer wakes a thread, and no task.
                loop {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }
            });
        };
        if number < runtimes {
            thread::spawn(run);
            thread::sleep(Duration::from_millis(300));
        } else {
            run();
        }
    }
}
