use taskleak::observe::bpf::*;
fn main() {
    let t=std::time::Instant::now();
    let mut p = Probes::load(&LoadOptions{filter: monitor_common::Filter::All, futex_probes: true, max_threads: 65536, log: log::LevelFilter::Off}).unwrap();
    println!("load {:?}", t.elapsed());
    for s in p.states() { println!("{} {:?}", s.spec.name, s.failure); }
    let _g = enable_run_stats();
    for _ in 0..2 {
    let t=std::time::Instant::now(); let mut n=0; let mut show=0;
    p.sweep(|r| { n+=1; if r.record_flags & 2 != 0 && show<5 { show+=1; println!("{} {} {:?} nr {} since {} lag {}", r.tgid, r.tid, std::str::from_utf8(&r.comm), r.syscall, r.sampled_at.wrapping_sub(r.futex.start), r.sampled_at.wrapping_sub(r.reader_arrival) as i64); }}).unwrap();
    println!("sweep {} {:?}", n, t.elapsed()); }
    let before: Vec<_> = p.program_runs();
    std::thread::sleep(std::time::Duration::from_secs(std::env::args().nth(1).map_or(1, |x| x.parse().unwrap())));
    for (a,b) in p.program_runs().iter().zip(before) { let n=a.runs-b.runs; if n>0 { println!("{} {} {} ns", a.program, n, (a.run_time-b.run_time).as_nanos() as u64 / n); } }
    println!("{:?} {:?}", p.maps(), p.lost());
    println!("{}", std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("Vm")).collect::<Vec<_>>().join(" "));
}
