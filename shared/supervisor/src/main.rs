//! PID 1 of a cell: takes runs from its standard input, and makes fresh surroundings for each.
//! See the library of the same name for what is said.

mod cell;

use cell::{Isolation, serve};

fn main() {
    // A panic in a forked child must not unwind into the parent's loop: whoever panics, ends.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("flotilla-supervisor: {panic}");
        std::process::exit(70);
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let isolation = match words[..] {
        ["--version"] => return println!("{}", flotilla_supervisor::PROTOCOL_VERSION),
        [] | ["--isolation", "namespaces"] => Isolation::Namespaces,
        ["--isolation", "container"] => Isolation::Container,
        _ => {
            eprintln!("usage: flotilla-supervisor [--version | --isolation namespaces|container]");
            std::process::exit(64);
        }
    };
    if let Err(why) = serve(isolation) {
        eprintln!("flotilla-supervisor: {why}");
        std::process::exit(1);
    }
}
