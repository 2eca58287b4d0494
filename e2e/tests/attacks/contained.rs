//! Getting out of a containment, or leaving something behind.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::process::{children, family, gone, kill, name};
use elevon_e2e::program::run;
use rustix::net::SocketAddrUnix;
use serde_json::Value;

use crate::ground::Ground;

crate::cases! {
    Shared a_contained_program_has_what_its_list_names_and_no_more,
    Shared a_contained_program_writes_to_nothing_but_its_folder,
    Shared a_contained_program_changes_no_mode_owner_or_name_outside,
    Shared a_contained_program_moves_no_mounts_and_no_namespaces,
    Shared a_contained_program_touches_no_process_outside,
    Shared a_contained_program_reaches_no_service_socket,
    Shared nobody_hands_a_contained_program_a_folder,
    Shared a_contained_program_finds_no_device,
    Shared a_contained_program_gives_no_rights_away_by_mode,
    Shared a_contained_program_finds_no_other_way_to_ask_the_kernel,
    Shared a_contained_program_leaves_no_residue,
    Shared a_contained_daemon_ends_with_its_grant,
    Shared a_killed_monitor_takes_everything_inside_along,
    Shared links_lead_no_contained_program_out,
    Shared a_descriptor_leads_no_contained_program_out,
    Shared a_device_is_handed_over_only_to_be_used,
    Shared a_contained_terminal_is_the_only_one,
    Shared a_working_directory_that_is_hidden_starts_nothing,
    Shared a_listed_folder_that_is_a_link_starts_nothing,
    Shared a_listed_folder_that_others_write_to_starts_nothing,
    Shared a_contained_program_stays_within_its_limits,
    Shared a_contained_program_of_the_same_user_is_contained,
    Alone an_elevator_that_cannot_contain_elevates_nothing_contained,
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EROFS: i32 = 30;

fn surroundings(ground: &Ground, folder: &str) -> Result<Value> {
    let ran = ground.kept(&[&ground.path(&format!("{folder}/probe"))])?.expect(0);
    Ok(serde_json::from_slice(&ran.out)?)
}

fn a_contained_program_has_what_its_list_names_and_no_more(ground: &mut Ground) -> Result<String> {
    let seen = surroundings(ground, "contained")?;
    let status = |field: &str| seen["status"][field].as_str().unwrap_or_default().to_owned();
    // chown, dac_override, fowner, kill, setgid, setuid, net_raw
    let expected = "00000000000020eb";
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        ensure!(status(set) == expected, "{set} is {}", status(set));
    }
    for set in ["CapInh", "CapAmb"] {
        ensure!(status(set) == "0".repeat(16), "{set} is {}", status(set));
    }
    ensure!(status("NoNewPrivs") == "1" && status("Seccomp") == "2", "{seen}");
    ensure!(seen["uid"] == serde_json::json!([0, 0]) && seen["pid"] == 2, "{seen}");
    let outside = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    for kind in ["pid", "mnt"] {
        let inside = seen["namespaces"][kind].as_str().unwrap_or_default();
        ensure!(!inside.is_empty() && Path::new(inside) != outside(kind), "{kind}: {inside}");
    }
    let started = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let layers = started.context("it started")?.data["layers"].clone();
    for layer in ["pid_namespace", "mount_namespace", "system_calls", "no_new_privileges"] {
        ensure!(layers[layer] == true, "{layer}: {layers}");
    }
    ensure!(layers["landlock"].as_u64() >= Some(6), "{layers}");
    ensure!(layers["capabilities"].as_array().map(Vec::len) == Some(7), "{layers}");
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("seven capabilities, namespaces of its own, Landlock {}", layers["landlock"]))
}

fn a_contained_program_writes_to_nothing_but_its_folder(ground: &mut Ground) -> Result<String> {
    let (data, bait) = (ground.data(), ground.bait("bait-written")?);
    let script = format!(
        r#"for my $path ("/etc/passwd", "/etc/evil", "/root/evil", "/usr/local/bin/evil", "/usr/lib/evil", "/var/tmp/evil",
            "/var/lib/evil", "/home/evil", "/evil", "/boot/evil", "/run/evil", "/dev/evil", "/dev/shm/evil", "/sys/fs/cgroup/evil",
            "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/self/oom_score_adj",
            "/proc/1/oom_score_adj", "{bait}", "/proc/self/root{bait}", "/proc/self/cwd{bait}") {{ try($path, sub {{ put($path) }}); }}
        try("its folder", sub {{ put("{data}/written") }});
        try("its tmp", sub {{ put("/tmp/elevon-written") }});
        print "read\n" if -s "/etc/passwd";"#,
        data = data.display()
    );
    let tried = ground.perl("contained", &script)?;
    tried.did("its folder")?;
    tried.did("its tmp")?;
    let text = tried.0.text();
    let failed = text.lines().filter(|line| line.contains(": no")).count();
    ensure!(failed == 22 && text.contains("read\n"), "{text}");
    ensure!(fs::read_to_string(data.join("written"))? == "evil\n");
    ensure!(!Path::new("/tmp/elevon-written").exists(), "its /tmp is everybody's");
    ensure!(fs::read_to_string(&bait)? == "bait\n", "the bait was changed");
    fs::remove_file(data.join("written"))?;
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("{failed} places refused; its folder and its own /tmp taken"))
}

/// Landlock alone looks at none of these; the mounts are read-only, too.
fn a_contained_program_changes_no_mode_owner_or_name_outside(ground: &mut Ground) -> Result<String> {
    let (bait, data) = (ground.bait("bait-changed")?, ground.data());
    let before = fs::metadata(&bait)?;
    let script = format!(
        r#"my $bait = "{bait}"; my $name = "user.evil"; my $capability = "security.capability"; my $value = "x" x 20;
        try("chmod", sub {{ chmod 0777, $bait }});
        try("chown", sub {{ chown 1000, 1000, $bait }});
        try("utime", sub {{ utime 1, 1, $bait }});
        try("truncate", sub {{ truncate $bait, 0 }});
        try("unlink", sub {{ unlink $bait }});
        try("rename", sub {{ rename $bait, "$bait.evil" }});
        try("rename in", sub {{ rename $bait, "{data}/bait" }});
        try("link in", sub {{ link $bait, "{data}/bait" }});
        try("link out", sub {{ put("{data}/mine"); link "{data}/mine", "$bait.evil" }});
        try("symlink", sub {{ symlink "/etc/shadow", "$bait.evil" }});
        try("mkdir", sub {{ mkdir "$bait.evil" }});
        try("setxattr", sub {{ ask(188, $bait, $name, $value, 20, 0) }});
        try("file capability", sub {{ ask(188, "{data}/mine", $capability, $value, 20, 0) }});
        try("itself", sub {{ chmod 0777, "/proc/self/exe" }});
        try("what runs", sub {{ chmod 0777, $^X }});
        unlink "{data}/mine";"#,
        data = data.display()
    );
    ground.perl("contained", &script)?.all_failed(15)?;
    let after = fs::metadata(&bait)?;
    let facts = |of: &fs::Metadata| (of.mode(), of.uid(), of.size(), of.mtime(), of.ctime(), of.nlink());
    ensure!(facts(&before) == facts(&after), "the bait was changed");
    ground.recorded(&[("launch.started", "")])?;
    Ok("15 changes refused, the bait as it was".into())
}

fn a_contained_program_moves_no_mounts_and_no_namespaces(ground: &mut Ground) -> Result<String> {
    let bait = ground.bait("bait-mounted")?;
    let script = format!(
        r#"my ($none, $tmpfs, $root, $tmp, $bait) = ("none", "tmpfs", "/", "/tmp", "{bait}");
        try("mount", sub {{ ask(165, $none, $tmp, $tmpfs, 0, 0) }});
        try("remount", sub {{ ask(165, $none, $root, 0, 32, 0) }});
        try("bind", sub {{ ask(165, $root, $tmp, 0, 4096, 0) }});
        for my $path ("/dev", "/run", "/tmp", "/proc") {{ my $p = $path; try("umount $p", sub {{ ask(166, $p, 2) }}); }}
        try("unshare", sub {{ ask(272, 0x20000) }});
        try("pivot_root", sub {{ ask(155, $root, $tmp) }});
        try("open_tree", sub {{ ask(428, -100, $root, 1) }});
        try("fsopen", sub {{ ask(430, $tmpfs, 0) }});
        my $attributes = pack("Q4", 0, 1, 0, 0);
        try("mount_setattr", sub {{ ask(442, -100, $root, 0x8000, $attributes, 32) }});
        for my $kind ("mnt", "pid", "net", "user") {{
            try("setns $kind", sub {{ open(my $ns, "<", "/proc/1/ns/$kind") or return 0; ask(308, fileno($ns), 0) }}); }}
        try("host root", sub {{ open(my $f, "<", "/proc/1/root/run/dbus/system_bus_socket") }});
        # Root of a user namespace of its own is root of nothing.
        my $child = fork; if (!$child) {{
            ask(272, 0x10000000 | 0x20000);
            try("mount in a user namespace", sub {{ ask(165, $none, $tmp, $tmpfs, 0, 0) }});
            try("remount in a user namespace", sub {{ ask(165, $none, $root, 0, 32 | 4096, 0) }});
            try("umount in a user namespace", sub {{ ask(166, "/run", 2) }});
            try("write in a user namespace", sub {{ put($bait) }});
            try("chmod in a user namespace", sub {{ chmod 0777, $bait }});
            exit 0 }} waitpid $child, 0;"#
    );
    ground.perl("contained", &script)?.all_failed(22)?;
    ensure!(fs::read_to_string(&bait)? == "bait\n" && fs::metadata(&bait)?.mode() & 0o777 == 0o644);
    ground.recorded(&[("launch.started", "")])?;
    Ok("22 ways refused, those of a user namespace's root among them".into())
}

fn a_contained_program_touches_no_process_outside(ground: &mut Ground) -> Result<String> {
    let elevator = ground.elevator_pid().context("it runs")?;
    let script = format!(
        r#"opendir(my $proc, "/proc"); my @seen = grep {{ /^\d+$/ }} readdir $proc; print "sees ", scalar(@seen), "\n";
        try("kill outside", sub {{ kill 9, {elevator} }});
        try("stop the monitor", sub {{ kill 19, 1; kill 9, 1; open(my $s, "<", "/proc/1/stat"); (<$s> =~ /\) T /) }});
        try("trace the monitor", sub {{ ask(101, 16, 1, 0, 0) }});
        try("seize the monitor", sub {{ ask(101, 0x4206, 1, 0, 0) }});
        try("memory of the monitor", sub {{ open(my $m, "+<", "/proc/1/mem") }});
        try("environment of the monitor", sub {{ open(my $m, "<", "/proc/1/environ") or return 0; defined(<$m>) }});
        try("descriptors of the monitor", sub {{ readlink("/proc/1/fd/0") }});
        try("its root", sub {{ opendir(my $d, "/proc/1/root/") }});
        my $process = syscall(434, 1, 0);
        try("take a descriptor", sub {{ ask(438, $process, 0, 0) }});
        try("read its memory", sub {{ my $b = "x" x 8; my $l = pack("P Q", $b, 8); my $r = pack("Q Q", 0x400000, 8); ask(310, 1, $l, 1, $r, 1, 0) }});"#
    );
    let tried = ground.perl("contained", &script)?;
    let text = tried.0.text();
    ensure!(text.contains("sees 2\n"), "it sees others: {text}");
    let failed = text.lines().filter(|line| line.contains(": no")).count();
    ensure!(failed == 10 && !text.contains(": done"), "{text}");
    ground.recorded(&[("launch.started", "")])?;
    Ok("two processes to be seen, ten ways to touch another refused".into())
}

fn a_contained_program_reaches_no_service_socket(ground: &mut Ground) -> Result<String> {
    let mark = ground.site.programs.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let in_run = format!("/run/{mark}.sock");
    let elsewhere = format!("{}/service.sock", ground.site.programs.display());
    let in_tmp = format!("{}/service.sock", ground.site.tree.display());
    let listeners: Vec<UnixListener> =
        [&in_run, &elsewhere, &in_tmp].into_iter().map(UnixListener::bind).collect::<Result<_, _>>()?;
    for path in [&in_run, &elsewhere, &in_tmp] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
    }
    let hidden = abstract_socket(&mark)?;
    let script = format!(
        r#"for my $name ("{in_run}", "{elsewhere}", "{in_tmp}", '@{mark}', "{}", "/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket",
            "/run/systemd/private", "/run/systemd/notify", "/run/docker.sock", "/dev/log", "/proc/1/root{in_run}") {{ try($name, sub {{ reach($name) }}); }}
        for my $name ("{in_run}", "{elsewhere}", "{in_tmp}") {{ try("see $name", sub {{ -S $name }}); }}
        socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) and print "pairs work\n";
        socket(my $s, AF_INET, SOCK_STREAM, 0) and print "the network works\n";"#,
        ground.site.socket().display()
    );
    // What is contained fails; what is not does not, or the test would say nothing.
    let free = ground.path("contained/perl");
    let tried = ground.perl("contained", &script)?;
    let outside =
        run(std::process::Command::new(free).args(["-e", &Ground::script(&script)]).current_dir("/"), b"")?;
    drop((listeners, hidden));
    for path in [&in_run, &elsewhere, &in_tmp] {
        fs::remove_file(path)?;
    }
    for name in [&in_run, &elsewhere, &in_tmp, &format!("@{mark}")] {
        ensure!(outside.text().contains(&format!("{name}: done")), "{}", outside.text());
    }
    let text = tried.0.text();
    ensure!(text.contains("pairs work") && text.contains("the network works"), "{text}");
    tried.all_failed(15)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("twelve sockets, by path and by name, out of reach".into())
}

/// Somebody outside who works together with a contained program has no way to hand in a folder of theirs.
fn nobody_hands_a_contained_program_a_folder(ground: &mut Ground) -> Result<String> {
    let data = ground.data();
    let script = format!(
        r#"try("stream", sub {{ socket(my $s, AF_UNIX, SOCK_STREAM, 0) }}); try("datagram", sub {{ socket(my $s, AF_UNIX, SOCK_DGRAM, 0) }});
        for my $kind (SOCK_DGRAM, 3, SOCK_DGRAM | 02000000) {{ try("pair of kind $kind", sub {{ socketpair(my $a, my $b, AF_UNIX, $kind, PF_UNSPEC) }}); }}
        try("listen in its folder", sub {{ socket(my $s, AF_UNIX, SOCK_STREAM, 0) or return 0; bind($s, pack_sockaddr_un("{data}/in")) && listen($s, 1) }});"#,
        data = data.display()
    );
    ground.perl("contained", &script)?.all_failed(6)?;
    let perl = ground.path("contained/perl");
    let mut command = ground.kept_command(&[&perl, "-e", "print 'ran'"])?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    command.stdin(rustix::fd::OwnedFd::from(theirs));
    let ran = command.output()?;
    drop(ours);
    let told = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.code() == Some(126) && ran.stdout.is_empty(), "{told}");
    ensure!(told.contains("no sockets of this computer"), "{told}");
    ground.recorded(&[("launch.started", ""), ("launch.started", ""), ("launch.ended", "failed")])?;
    Ok("no socket to be made, none to be handed over".into())
}

fn abstract_socket(name: &str) -> Result<rustix::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    listen(&socket, 1)?;
    Ok(socket)
}

fn a_contained_program_finds_no_device(ground: &mut Ground) -> Result<String> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    // One that lies elsewhere already: /dev/mem's number, and the first disk's.
    let (memory, data) = (ground.path("memory"), ground.data());
    let _ = fs::remove_file(&memory);
    mknodat(CWD, memory.as_str(), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 5))?;
    let script = format!(
        r#"opendir(my $dev, "/dev"); print "devices: ", join(" ", sort grep {{ !/^\.+$/ }} readdir $dev), "\n";
        for my $path ("/dev/mem", "/dev/kmem", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/loop-control", "{memory}") {{
            try($path, sub {{ sysopen(my $d, $path, O_RDWR) }}); }}
        my $node = "{data}/node";
        try("mknod", sub {{ ask(133, $node, 020666, 0x105) }});
        try("mknod a disk", sub {{ ask(133, $node, 060666, 0xfe00) }});
        try("mknodat", sub {{ ask(259, -100, "/tmp/node", 020666, 0x105) }});
        for my $name ("null", "zero", "full", "random", "urandom", "tty") {{ try("chmod $name", sub {{ chmod 0, "/dev/$name" }}); }}
        try("chown null", sub {{ chown 1000, 1000, "/dev/null" }});
        print "null works\n" if put("/dev/null"); open(my $r, "<", "/dev/urandom"); print "random works\n" if read($r, my $b, 4);"#,
        data = data.display()
    );
    let tried = ground.perl("contained", &script)?;
    let text = tried.0.text();
    fs::remove_file(&memory)?;
    let there = "devices: fd full null ptmx pts random stderr stdin stdout tty urandom zero\n";
    ensure!(text.contains(there) && text.contains("null works") && text.contains("random works"), "{text}");
    let failed = text.lines().filter(|line| line.contains(": no")).count();
    ensure!(failed == 20 && !text.contains(": done"), "{text}");
    tried.failed_with("chmod null", EROFS)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("six harmless devices, which stay as they are, and its terminals; ten others and three new ones refused".into())
}

fn a_contained_program_gives_no_rights_away_by_mode(ground: &mut Ground) -> Result<String> {
    let data = ground.data();
    let script = format!(
        r#"my $file = "{data}/mine"; put($file); open(my $f, "+<", $file); my $fd = fileno $f; my $n = 0;
        for my $mode (04755, 02755, 06755, 04000) {{
            try("chmod $mode", sub {{ ask(90, $file, $mode) }});
            try("fchmod $mode", sub {{ ask(91, $fd, $mode) }});
            try("fchmodat $mode", sub {{ ask(268, -100, $file, $mode) }});
            try("fchmodat2 $mode", sub {{ ask(452, -100, $file, $mode, 0) }});
            my $new = "{data}/new" . $n++;
            try("open $mode", sub {{ ask(2, $new, O_CREAT | O_WRONLY, $mode) }});
            try("openat $mode", sub {{ ask(257, -100, $new, O_CREAT | O_WRONLY, $mode) }});
            try("tmpfile $mode", sub {{ ask(257, -100, "{data}", 020200000 | O_WRONLY, $mode) }});
            try("creat $mode", sub {{ ask(85, $new, $mode) }});
            try("mknod $mode", sub {{ ask(133, $new, 0100000 | $mode, 0) }});
            try("mknodat $mode", sub {{ ask(259, -100, $new, 0100000 | $mode, 0) }});
        }}
        print "plain works\n" if chmod 0750, $file; unlink $file;"#,
        data = data.display()
    );
    let tried = ground.perl("contained", &script)?;
    ensure!(tried.0.text().contains("plain works"), "{}", tried.0.text());
    tried.all_failed(40)?;
    tried.failed_with("chmod 2541", EPERM)?;
    ensure!(fs::read_dir(&data)?.count() == 0, "something was left in its folder");
    ground.recorded(&[("launch.started", "")])?;
    Ok("ten calls with four modes each refused; a plain mode set".into())
}

fn a_contained_program_finds_no_other_way_to_ask_the_kernel(ground: &mut Ground) -> Result<String> {
    let script = r#"my ($path, $how, $ring) = ("/etc/passwd", pack("Q3", 0, 0, 0), "\0" x 120);
        try("openat2", sub { ask(437, -100, $path, $how, 24) });
        try("io_uring", sub { ask(425, 8, $ring) });
        try("ring that was handed in", sub { ask(426, 0, 1, 0, 0, 0) });
        try("open by handle", sub { ask(304, 0, $ring, 0) });
        try("a key", sub { ask(248, $path, $path, $path, 1, -4) });
        print "going on\n"; ask(0x40000000 + 39); print "x32 answered\n";"#;
    let tried = ground.perl("contained", script)?;
    tried.failed_with("openat2", ENOSYS)?;
    tried.failed_with("io_uring", ENOSYS)?;
    tried.failed_with("ring that was handed in", ENOSYS)?;
    tried.failed_with("open by handle", EPERM)?;
    tried.failed_with("a key", EPERM)?;
    let text = tried.0.text();
    ensure!(text.contains("going on") && !text.contains("x32 answered"), "{text}");
    ensure!(tried.0.0.code() == 128 + 31, "x32 ended with {}", tried.0.0.code());
    let program = ground.site.programs.join("contained/old");
    fs::write(&program, old_call())?;
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    let ran = ground.kept(&[&program.to_string_lossy()])?;
    fs::remove_file(&program)?;
    // SIGSYS, or SIGSEGV on a kernel that has no such calls.
    ensure!([128 + 31, 128 + 11].contains(&ran.code()), "int 0x80 ended with {}", ran.code());
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok(format!("ENOSYS, ENOSYS, killed, killed ({})", ran.code()))
}

/// A program of 64 bits that asks by the calls of 32: getpid by `int 0x80`, then exit(0).
fn old_call() -> Vec<u8> {
    let code = [
        0xb8, 20, 0, 0, 0, 0xcd, 0x80, // mov eax, 20; int 0x80
        0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // mov eax, 60; xor edi, edi; syscall
    ];
    let (base, start) = (0x40_0000_u64, 64 + 56_u64);
    let size = start + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0];
    for word in [base + start, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, base, base, size, size, 4096] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

fn a_contained_program_leaves_no_residue(ground: &mut Ground) -> Result<String> {
    let data = ground.data();
    let script = format!(
        r#"for my $path ("/etc/cron.d/evil", "/etc/crontab", "/var/spool/cron/crontabs/root", "/etc/systemd/system/evil.service", "/run/systemd/system/evil.service",
            "/etc/ld.so.preload", "/etc/profile.d/evil.sh", "/root/.ssh/authorized_keys", "/root/.bashrc", "/etc/sudoers.d/evil", "/etc/pam.d/evil", "/etc/udev/rules.d/evil.rules",
            "/etc/init.d/evil", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/var/spool/at/evil", "/etc/xdg/autostart/evil.desktop") {{ try($path, sub {{ put($path) }}); }}
        try("setuid copy", sub {{ system("cp /bin/sh {data}/sh") == 0 and chmod 04755, "{data}/sh" }});
        try("setuid copy for her", sub {{ system("cp -p /usr/bin/su {data}/su") == 0 and -u "{data}/su" }});
        try("install", sub {{ system("install -m 4755 /bin/sh {data}/shell 2>/dev/null") == 0 }});
        unlink glob("{data}/*");"#,
        data = data.display()
    );
    ground.perl("contained", &script)?.all_failed(19)?;
    ensure!(fs::read_dir(&data)?.count() == 0, "something was left in its folder");
    ground.recorded(&[("launch.started", "")])?;
    Ok("16 places and three set-user-ID copies refused".into())
}

fn a_contained_daemon_ends_with_its_grant(ground: &mut Ground) -> Result<String> {
    let (bash, heart) = (ground.path("contained/bash"), ground.data().join("heart"));
    let script = format!(
        "beat() {{ while :; do date +%s%3N >{0}.new && mv {0}.new {0}; done; }}; trap '' HUP TERM; \
         (setsid bash -c \"$(declare -f beat); trap '' HUP TERM; beat\" >/dev/null 2>&1 &); echo begun",
        heart.display()
    );
    let mut client = ground.kept_running(&[&bash, "-c", &script])?;
    let (started, session) = ground.running().with_context(|| client.log())?;
    client.exit(SOON)?.expect(0);
    until_true("its heart to beat", SOON, || heart.exists())?;
    ensure!(!children(session).is_empty(), "the monitor went with its program");
    let grant = started.data["grant"].as_str().unwrap_or_default().to_owned();
    ground.revoke(&grant)?;
    until_true("its tree to be gone", SOON, || !Path::new(&format!("/proc/{session}")).exists())?;
    for file in fs::read_dir(ground.data())? {
        fs::remove_file(file?.path())?;
    }
    ground.recorded(&[("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok("it outlived its program, and not its grant".into())
}

/// From outside, by root: inside nobody can.
fn a_killed_monitor_takes_everything_inside_along(ground: &mut Ground) -> Result<String> {
    let bash = ground.path("contained/bash");
    let script = "trap '' HUP TERM; (setsid bash -c \"trap '' HUP TERM; sleep 98767\" &); sleep 98767";
    let mut client = ground.kept_running(&[&bash, "-c", script])?;
    let (_, session) = ground.running().with_context(|| client.log())?;
    let sleeping = || family(session).into_iter().filter(|pid| name(*pid) == "sleep").collect::<Vec<_>>();
    let inside = until("what runs inside", SOON, || Ok(<[i32; 2]>::try_from(sleeping()).ok()))?;
    let monitor = children(session).into_iter().find(|pid| name(*pid) == "elevon-monitor");
    kill(monitor.context("a monitor")?);
    for process in inside {
        gone(process, SOON)?;
    }
    gone(session, SOON)?;
    client.exit(SOON)?.expect(137);
    ground.recorded(&[("launch.started", "")])?;
    Ok("two processes, and the session, which told its client".into())
}

fn links_lead_no_contained_program_out(ground: &mut Ground) -> Result<String> {
    let (bait, data) = (ground.bait("bait-linked")?, ground.data());
    std::os::unix::fs::symlink(&bait, data.join("planted"))?;
    std::os::unix::fs::symlink("/etc", data.join("folder"))?;
    let script = format!(
        r#"my ($bait, $data) = ("{bait}", "{data}");
        try("through a planted link", sub {{ put("$data/planted") }});
        try("through a planted folder", sub {{ put("$data/folder/evil") }});
        try("through its own link", sub {{ symlink($bait, "$data/own"); put("$data/own") }});
        try("chmod through a link", sub {{ chmod 0777, "$data/planted" }});
        try("up and over", sub {{ put("$data/../bait-linked") }});
        try("a hard link in", sub {{ link($bait, "$data/hard") }});
        try("its tmp to its folder", sub {{ link("/etc/passwd", "/tmp/hard") }});
        try("rename in", sub {{ rename($bait, "$data/moved") }});
        try("exchange", sub {{ put("$data/mine"); ask(316, -100, "$data/mine", -100, $bait, 2) }});
        unlink glob("$data/*");"#,
        data = data.display()
    );
    ground.perl("contained", &script)?.all_failed(9)?;
    ensure!(fs::read_to_string(&bait)? == "bait\n" && fs::metadata(&bait)?.nlink() == 1);
    ensure!(fs::metadata(&bait)?.mode() & 0o777 == 0o644, "its mode was changed");
    for file in fs::read_dir(&data)? {
        fs::remove_file(file?.path())?;
    }
    ground.recorded(&[("launch.started", "")])?;
    Ok("nine links refused".into())
}

fn a_descriptor_leads_no_contained_program_out(ground: &mut Ground) -> Result<String> {
    let bait = ground.bait("bait-descriptor")?;
    let perl = ground.path("contained/perl");
    // A folder: the whole tree would be reached through it.
    for input in ["/", "/run", "/tmp"] {
        let line = format!("cd / && elevon run -- {perl} -e 'print \"ran\"' <{input}");
        let said = ground.shell(&line, b"")?;
        ensure!(said.0.code() == 126 && !said.text().contains("ran"), "{input}: {}", said.text());
        ensure!(said.text().contains("no folders"), "{}", said.text());
    }
    // A file of root's that she can read: it can be read on, and nothing else.
    let script = r#"sub { my $line = <STDIN>; print "got $line"; }->(); try("fchmod", sub { ask(91, 0, 0777) }); try("chmod by proc", sub { chmod 0777, "/proc/self/fd/0" });
        try("fchown", sub { ask(93, 0, 1000, 1000) }); try("write again", sub { put("/proc/self/fd/0") }); try("truncate", sub { truncate "/proc/self/fd/0", 0 });"#;
    let mut command = ground.kept_command(&[&perl, "-e", &Ground::script(script)])?;
    let mut file = fs::File::open(&bait)?;
    file.seek(SeekFrom::Start(1))?;
    command.stdin(file);
    let ran = command.output()?;
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    ensure!(text.contains("got ait\n"), "it did not read on where she was: {text}");
    ensure!(text.lines().filter(|line| line.contains(": no")).count() == 5, "{text}");
    ensure!(text.contains(&format!("fchmod: no ({EROFS})")), "{text}");
    ensure!(fs::metadata(&bait)?.mode() & 0o777 == 0o644 && fs::read_to_string(&bait)? == "bait\n");
    // One that she may write to is hers to hand over.
    let hers = ground.hers("handed-over", b"")?;
    let said = ground.shell(&format!("cd / && elevon run -- {perl} -e 'print \"told\"' >{hers}"), b"")?;
    ensure!(said.0.code() == 0 && fs::read_to_string(&hers)? == "told", "{}", said.text());
    let failed = ("launch.ended", "failed");
    let started = ("launch.started", "");
    ground.recorded(&[started, started, started, failed, failed, failed, started, started])?;
    Ok("no folder handed over; a file to read stays one".into())
}

/// /dev/null and the like as a standard descriptor can be read and written, and not changed for everybody; no other device, no
/// pipe with a name and no ring of system calls is handed over.
fn a_device_is_handed_over_only_to_be_used(ground: &mut Ground) -> Result<String> {
    let perl = ground.path("contained/perl");
    let before: Vec<_> = ["null", "zero"]
        .map(|name| fs::metadata(format!("/dev/{name}")))
        .into_iter()
        .collect::<Result<_, _>>()?;
    let script = Ground::script(
        r#"sub { my $read = sysread(STDIN, my $zeros, 3); print STDERR "read $read\n" if $zeros eq "\0\0\0"; }->();
        print STDERR "wrote\n" if syswrite(STDOUT, "x"); select STDERR;
        for my $fd (0, 1) { try("fchmod $fd", sub { ask(91, $fd, 0) }); try("fchown $fd", sub { ask(93, $fd, 1000, 1000) }); }"#,
    );
    let mut command = ground.kept_command(&[&perl, "-e", &script])?;
    command.stdin(fs::File::open("/dev/zero")?);
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/null")?);
    let ran = command.output()?;
    let text = String::from_utf8_lossy(&ran.stderr);
    ensure!(text.contains("read 3\n") && text.contains("wrote\n"), "{text}");
    ensure!(ran.status.success() && text.lines().filter(|line| line.contains(": no")).count() == 4, "{text}");
    for (name, before) in ["null", "zero"].into_iter().zip(before) {
        let after = fs::metadata(format!("/dev/{name}"))?;
        ensure!((after.mode(), after.uid()) == (before.mode(), before.uid()), "{name} was changed");
    }
    let named = ground.hers("pipe-with-a-name", b"")?;
    fs::remove_file(&named)?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        named.as_str(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )?;
    for input in ["/dev/fuse", &named] {
        let mut command = ground.kept_command(&[&perl, "-e", "print 'ran'"])?;
        command.stdin(fs::OpenOptions::new().read(true).write(true).open(input)?);
        let ran = command.output()?;
        let told = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.code() == Some(126) && ran.stdout.is_empty(), "{input}: {told}");
        ensure!(told.contains("pass it through a pipe"), "{input}: {told}");
    }
    let (started, failed) = (("launch.started", ""), ("launch.ended", "failed"));
    ground.recorded(&[started, started, failed, started, failed])?;
    Ok("/dev/zero and /dev/null used and not changed; a device and a pipe with a name refused".into())
}

fn a_contained_terminal_is_the_only_one(ground: &mut Ground) -> Result<String> {
    let (tty, bash) = (ground.path("contained/tty"), ground.path("contained/bash"));
    let mut terminal = ground.site.in_terminal(&ground.site.alice, &ground.site.client())?;
    terminal
        .args(["run", "--", &bash, "-c", &format!("{tty}; ls /dev/pts; stty size; echo over >/dev/tty")])
        .current_dir("/");
    let mut terminal = elevon_e2e::terminal::Terminal::open(&mut terminal)?;
    terminal.expect("/dev/pts/0")?;
    terminal.expect("0")?;
    terminal.expect("ptmx")?;
    terminal.expect("over")?;
    ensure!(terminal.exit(SOON)? == 0);
    ground.recorded(&[("launch.started", "")])?;
    Ok("its terminal is /dev/pts/0, and there is no other".into())
}

fn a_working_directory_that_is_hidden_starts_nothing(ground: &mut Ground) -> Result<String> {
    let perl = ground.path("contained/perl");
    for folder in ["/tmp", "/run", "/dev"] {
        let said = ground.shell(&format!("cd {folder} && elevon run -- {perl} -e 'print \"ran\"'"), b"")?;
        ensure!(said.0.code() == 126 && !said.text().contains("ran"), "{folder}: {}", said.text());
        ensure!(said.text().contains("working directory"), "{}", said.text());
    }
    let (started, failed) = (("launch.started", ""), ("launch.ended", "failed"));
    ground.recorded(&[started, failed, started, failed, started, failed])?;
    Ok("126 from /tmp, /run and /dev".into())
}

fn a_listed_folder_that_is_a_link_starts_nothing(ground: &mut Ground) -> Result<String> {
    let ran = ground.kept(&[&ground.path("by-link/probe")])?.expect(126);
    ensure!(ran.out.is_empty() && ran.err.contains("is a symbolic link"), "{}", ran.err);
    let refused = ground.fresh()?.into_iter().find(|event| event.kind == "launch.refused");
    let missing = refused.context("it was refused")?.data["missing"].to_string();
    ensure!(missing.contains("data-link"), "{missing}");
    ground.recorded(&[("launch.refused", "layer_missing")])?;
    Ok("refused, layer_missing".into())
}

fn a_listed_folder_that_others_write_to_starts_nothing(ground: &mut Ground) -> Result<String> {
    let ran = ground.kept(&[&ground.path("by-others/probe")])?.expect(126);
    ensure!(ran.out.is_empty() && ran.err.contains("can be written to by others"), "{}", ran.err);
    ground.recorded(&[("launch.refused", "layer_missing")])?;
    Ok("refused, layer_missing".into())
}

fn a_contained_program_stays_within_its_limits(ground: &mut Ground) -> Result<String> {
    let script = r#"my @children; for (1..200) { my $child = fork; last unless defined $child; if (!$child) { sleep 60; exit } push @children, $child; }
        print "children ", scalar(@children), "\n"; kill 9, @children; 1 while wait != -1;
        my $child = fork; if (!$child) { my $most = 300 << 20; my $all = "x" x $most; print "all of it\n"; exit } waitpid $child, 0; print "ended ", $? & 127, "\n";"#;
    let tried = ground.perl("limited", script)?;
    let text = tried.0.text();
    let started = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let layers = started.context("it started")?.data["layers"].clone();
    let children: usize =
        text.lines().find_map(|line| line.strip_prefix("children ")?.parse().ok()).unwrap_or(200);
    ensure!(text.contains("children "), "{} {layers} {text}{}", tried.0.0.code(), tried.0.0.err);
    if layers["process_limit"] == "in_force" {
        ensure!(children < 24, "{text}");
    }
    if layers["memory_limit"] == "in_force" {
        ensure!(text.contains("ended 9\n") && !text.contains("all of it"), "{text}");
    }
    ensure!(!layers["process_limit"].is_null() && !layers["memory_limit"].is_null(), "{layers}");
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("{children} children; limits {} and {}", layers["process_limit"], layers["memory_limit"]))
}

fn a_contained_program_of_the_same_user_is_contained(ground: &mut Ground) -> Result<String> {
    let hers = ground.site.programs.join("hers");
    let script = format!(
        r#"try("her folder", sub {{ put("{hers}/written") }}); try("her home", sub {{ put("{home}/evil") }});
        try("the data of root", sub {{ put("{data}/evil") }}); try("root", sub {{ $> = 0; $> == 0 }});
        try("the elevator", sub {{ reach("{socket}") }}); try("set-user-ID", sub {{ chmod 04755, "{hers}/written" }});"#,
        hers = hers.display(),
        home = ground.site.alice.home.display(),
        data = ground.data().display(),
        socket = ground.site.socket().display(),
    );
    let tried = ground.perl("contained-user", &script)?;
    tried.did("her folder")?;
    for name in ["her home", "the data of root", "root", "the elevator", "set-user-ID"] {
        tried.failed(name)?;
    }
    ensure!(fs::metadata(hers.join("written"))?.uid() == ground.site.alice.uid);
    fs::remove_file(hers.join("written"))?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("it writes to her folder, as her, and to nothing else of hers".into())
}

/// Started without the right to make namespaces, it elevates what is not contained, and nothing that is.
fn an_elevator_that_cannot_contain_elevates_nothing_contained(ground: &mut Ground) -> Result<String> {
    ground.site.elevator.take().context("it runs")?.stop()?;
    let mut weaker = ground.site.elevator_command_under(
        &["/usr/bin/setpriv", "--bounding-set", "-sys_admin,-net_raw", "--"],
        &["run"],
    )?;
    ground.site.start_elevator_as(&mut weaker)?;
    ground.elevated(&[&ground.path("free/good")])?.expect(0);
    for (program, layer) in
        [("contained/probe", "net_raw"), ("capable/probe", "net_raw"), ("by-others/probe", "CAP_SYS_ADMIN")]
    {
        let ran = ground.kept(&[&ground.path(program)])?.expect(126);
        ensure!(ran.out.is_empty() && ran.err.contains(layer), "{program}: {}", ran.err);
    }
    let refused = ("launch.refused", "layer_missing");
    ground.recorded(&[("launch.started", ""), refused, refused, refused])?;
    let mut told = ground
        .site
        .elevator_command_under(&["/usr/bin/setpriv", "--bounding-set", "-sys_admin", "--"], &["doctor"])?;
    let told = run(&mut told, b"")?;
    ensure!(told.text().contains("the elevator runs without CAP_SYS_ADMIN"), "{}", told.text());
    let _ = std::io::stdout().flush();
    Ok("three refused with the layer that is missing, which doctor tells, too".into())
}
