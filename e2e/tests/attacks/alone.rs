//! Starting another program where none may be started.

use anyhow::{Context, Result, ensure};

use crate::ground::Ground;

crate::cases! {
    Shared a_program_without_children_forks_in_no_way,
    Shared a_program_without_children_executes_no_second_time,
    Shared a_descriptor_in_the_place_of_the_first_is_not_executed,
    Shared threads_that_execute_at_once_execute_nothing,
    Shared a_script_without_children_is_one_program,
    Shared a_contained_program_without_children_has_none,
    Shared a_user_without_children_has_none,
    Shared no_other_filter_answers_in_the_sessions_place,
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// Every way to make a process, by number: fork, vfork, clone as fork, as vfork and as posix_spawn do, clone3.
const FORKS: &str = r#"my $arguments = pack("Q11", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0);
    try("perl", sub { my $child = fork; exit 0 if defined $child && !$child; defined $child });
    try("fork", sub { ask(57) or return 0; 1 });
    try("vfork", sub { ask(58) or return 0; 1 });
    try("clone", sub { ask(56, 17, 0, 0, 0, 0) });
    try("clone as vfork", sub { ask(56, 0x4111, 0, 0, 0, 0) });
    try("clone with namespaces", sub { ask(56, 0x10020011, 0, 0, 0, 0) });
    try("clone3", sub { ask(435, $arguments, 88) });
    try("system", sub { system("/bin/true") == 0 });
    try("backticks", sub { my $said = `/bin/echo said`; defined $said && $said =~ /said/ });
    try("pipe", sub { open(my $p, "-|", "/bin/echo", "said") });"#;

fn a_program_without_children_forks_in_no_way(ground: &mut Ground) -> Result<String> {
    let tried = ground.perl("alone", FORKS)?;
    tried.all_failed(10)?;
    for name in ["fork", "vfork", "clone", "clone as vfork", "clone with namespaces"] {
        tried.failed_with(name, EPERM)?;
    }
    tried.failed_with("clone3", ENOSYS)?;
    let started = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let layers = started.context("it started")?.data["layers"].clone();
    ensure!(layers["one_process"] == true, "{layers}");
    ground.recorded(&[("launch.started", "")])?;
    Ok("ten ways refused, and on record that they are".into())
}

/// Also by the very program that it is, and by every name it has.
const EXECUTIONS: &str = r#"my ($true, $empty) = ("/bin/true", ""); my ($argv, $env) = (pack("P Q", $true, 0), pack("Q", 0));
    my $self = "/proc/self/exe"; my $own = $^X;
    try("execve", sub { ask(59, $true, $argv, $env) });
    try("execveat", sub { ask(322, -100, $true, $argv, $env, 0) });
    try("itself", sub { ask(59, $self, $argv, $env) });
    try("itself by path", sub { ask(59, $own, $argv, $env) });
    open(my $file, "<", $true); my $fd = fileno $file;
    try("by descriptor", sub { ask(322, $fd, $empty, $argv, $env, 0x1000) });
    try("by link", sub { my $name = "/proc/self/fd/$fd"; ask(59, $name, $argv, $env) });
    my $name = "evil"; my $memory = syscall(319, $name, 0); open(my $m, "+<&=", $memory); syswrite $m, "\x23!/bin/sh\necho evil\n";
    try("by memory", sub { ask(322, $memory, $empty, $argv, $env, 0x1000) });
    for my $n (1 .. 20) { try("again $n", sub { ask(59, $true, $argv, $env) }); }"#;

fn a_program_without_children_executes_no_second_time(ground: &mut Ground) -> Result<String> {
    ground.perl("alone", EXECUTIONS)?.all_failed(27)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("27 executions refused".into())
}

/// What bypassed a filter that knew the descriptor of the one execution it allowed.
fn a_descriptor_in_the_place_of_the_first_is_not_executed(ground: &mut Ground) -> Result<String> {
    let script = r#"my $true = "/bin/true"; my $empty = ""; my ($argv, $env) = (pack("P Q", $true, 0), pack("Q", 0));
        open(my $file, "<", $true); my $fd = fileno $file; my $tries = 0;
        for my $n (3 .. 64) { next if $n == $fd; syscall(33, $fd, $n); }
        for my $n (0 .. 64) { $tries++; try("number $n", sub { ask(322, $n, $empty, $argv, $env, 0x1000) }); }"#;
    ground.perl("alone", script)?.all_failed(65)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("65 numbers tried with dup2, none executed".into())
}

fn threads_that_execute_at_once_execute_nothing(ground: &mut Ground) -> Result<String> {
    let evil = ground.path("alone/evil");
    for _ in 0..if crate::ground::full() { 50 } else { 3 } {
        let ran = ground.kept(&[&ground.path("alone/restless"), &evil, &ground.mark()])?.expect(0);
        ensure!(ran.text().contains("nobody became"), "{}", ran.text());
    }
    let rounds = if crate::ground::full() { 50 } else { 3 };
    ground.recorded(&vec![("launch.started", ""); rounds])?;
    Ok(format!("{} executions by eight threads refused", rounds * 4000))
}

fn a_script_without_children_is_one_program(ground: &mut Ground) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let script = ground.site.programs.join("alone/script.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\necho built in\n/bin/echo started\n(echo forked)\nexec /bin/echo replaced\n",
    )?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    let ran = ground.kept(&[&script.to_string_lossy()])?;
    std::fs::remove_file(&script)?;
    let text = ran.text();
    ensure!(text.contains("built in"), "{text}{}", ran.err);
    for word in ["started", "forked", "replaced"] {
        ensure!(!text.contains(word), "{text}");
    }
    ground.recorded(&[("launch.started", "")])?;
    Ok("its interpreter ran it, and started nothing".into())
}

fn a_contained_program_without_children_has_none(ground: &mut Ground) -> Result<String> {
    ground.perl("contained-alone", FORKS)?.all_failed(10)?;
    ground.perl("contained-alone", EXECUTIONS)?.all_failed(27)?;
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok("37 ways refused".into())
}

fn a_user_without_children_has_none(ground: &mut Ground) -> Result<String> {
    ground.perl("capable-alone", FORKS)?.all_failed(10)?;
    ground.perl("capable-alone", EXECUTIONS)?.all_failed(27)?;
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok("37 ways refused".into())
}

/// A filter of its own that would answer for the session: the kernel takes the stricter answer, and one listener only.
fn no_other_filter_answers_in_the_sessions_place(ground: &mut Ground) -> Result<String> {
    let script = r#"my $allow = pack("S C C L", 0x06, 0, 0, 0x7fff0000); my $program = pack("S x6 P", 1, $allow);
        try("another listener", sub { ask(317, 1, 8, $program) });
        my $true = "/bin/true"; my ($argv, $env) = (pack("P Q", $true, 0), pack("Q", 0));
        print "filtered\n" if ask(317, 1, 0, $program);
        try("execve", sub { ask(59, $true, $argv, $env) });
        try("fork", sub { ask(57) });"#;
    let tried = ground.perl("capable-alone", script)?;
    tried.all_failed(3)?;
    ensure!(tried.0.text().contains("filtered"), "{}", tried.0.text());
    ground.recorded(&[("launch.started", "")])?;
    Ok("no second listener, and an answer of its own counts for nothing".into())
}
