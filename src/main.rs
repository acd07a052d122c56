//! The thin binary: the command line goes to the library, its answer becomes the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    hpc::cli::main(std::env::args_os())
}
