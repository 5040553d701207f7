pub mod detect; pub mod export; pub mod model; pub mod observe; pub mod pipeline; pub mod target;
