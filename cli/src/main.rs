//! `fvm`, the command: what a person or a script says to `fvmd`, and what comes back.
//!
//! It runs as the calling user. It reads the user's files, unpacks images and owns the terminal; all that
//! needs privilege is the daemon's, and is asked of it over `fvm_vmm::api` only.

mod args;
mod checksum;
mod client;
mod commands;
mod complete;
mod decode;
mod editor;
mod encode;
mod exit;
mod fast_vm;
mod fetch;
mod hook;
mod keys;
mod lab_file;
mod origin;
mod output;
mod part_files;
mod quantity;
mod seed;
mod ssh;
mod template;
mod terminal;
mod units;
mod vm_names;
mod wait;

use args::Args;
use clap::Parser;
use commands::Context;
use exit::{CommandResult, Exit};
use output::Output;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

fn main() -> ExitCode {
    match complete::complete() {
        Ok(false) => {}
        Ok(true) => return Exit::DONE.into(),
        Err(error) => error.exit(),
    }
    // Prints help and version itself, and ends with status 2 for wrong usage.
    let args = Args::parse_from(fast_vm::translate(std::env::args_os()));
    let out = Output::new(args.global.wishes());
    // Unwinding has restored the terminal by the time a panic is caught here.
    let result = catch_unwind(AssertUnwindSafe(|| run(args, &out)));
    let result = result.unwrap_or_else(|_| Err(exit::bug()));
    out.settled();
    let exit = match (result, out.failure()) {
        (Ok(Exit::DONE), Some(error)) => fail(&out, &exit::unwritten(&error)),
        (Ok(exit), _) => exit,
        (Err(error), _) => fail(&out, &error),
    };
    exit.into()
}

fn run(args: Args, out: &Output) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| exit::no_runtime(&error))?;
    let context = Context {
        client: args.global.client(&args.command)?,
        out,
    };
    let result = runtime.block_on(args.command.run(&context));
    // A thread may still wait for input that nobody needs any more.
    runtime.shutdown_background();
    result
}

fn fail(out: &Output, error: &fvm_vmm::api::ApiError) -> Exit {
    out.error(error);
    Exit::of(error.kind)
}
