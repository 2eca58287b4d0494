//! What an elevated program inherits: nothing but what is stated.

use std::collections::BTreeMap;

use anyhow::Result;
use elevon_e2e::program::run;
use serde_json::{Value, json};

use crate::scene::Scene;

/// A caller that has prepared everything a caller can prepare.
fn hostile(scene: &Scene) -> Result<Value> {
    let probe = scene.site.install("free", "probe")?;
    let mut command = scene.site.as_user(&scene.site.alice, "/bin/bash".as_ref())?;
    let script = format!(
        "umask 027; ulimit -n 333; ulimit -c unlimited; trap '' USR1 INT PIPE; exec 7</dev/null 8</etc/passwd; \
         exec elevon run -- {} one",
        probe.display()
    );
    command.args(["-c", &script]);
    for (name, value) in [
        ("LD_PRELOAD", "/lib/x86_64-linux-gnu/libm.so.6"),
        ("LD_LIBRARY_PATH", "/tmp"),
        ("LD_AUDIT", ""),
        ("GLIBC_TUNABLES", "glibc.malloc.check=1"),
        ("GCONV_PATH", "/tmp"),
        ("PYTHONPATH", "/tmp"),
        ("PERL5LIB", "/tmp"),
        ("RUBYOPT", "-r/tmp/x"),
        ("NODE_OPTIONS", "--require=/tmp/x"),
        ("ENV", "/tmp/x"),
        ("BASH_FUNC_ls%%", "() { echo mine; }"),
        ("GIT_SSH", "/tmp/x"),
        ("PAGER", "/tmp/x"),
        ("EDITOR", "/tmp/x"),
        ("XDG_RUNTIME_DIR", "/tmp"),
        ("TMPDIR", "/tmp/x"),
        ("IFS", "x"),
        ("DISPLAY", ":0"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "../../tmp/x"),
        ("TZ", "/tmp/x"),
        ("TERM", "../x"),
    ] {
        command.env(name, value);
    }
    let ran = run(&mut command, b"")?.expect(0);
    Ok(serde_json::from_slice(&ran.out)?)
}

#[test]
fn the_environment_is_built_from_nothing() -> Result<()> {
    let scene = Scene::set()?;
    let seen: BTreeMap<String, String> = serde_json::from_value(hostile(&scene)?["environment"].clone())?;
    let allowed = [
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "SHELL",
        "USER",
        "TERM",
        "ELEVON_USER",
        "ELEVON_UID",
        "ELEVON_GRANT",
        "ELEVON_LAUNCH",
        "SUDO_USER",
        "SUDO_UID",
        "SUDO_GID",
    ];
    for name in seen.keys() {
        assert!(allowed.contains(&name.as_str()), "{name} got through: {seen:?}");
    }
    let has = |name: &str| seen.get(name).map(String::as_str);
    assert_eq!(has("HOME"), Some("/root"));
    assert_eq!(has("USER"), Some("root"));
    assert_eq!(has("LOGNAME"), Some("root"));
    assert_eq!(has("LANG"), Some("C.UTF-8"));
    assert!(has("TERM").is_none_or(|term| !term.contains('/')), "{seen:?}");
    let path = has("PATH").unwrap_or_default();
    let trusted = |part: &str| {
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].contains(&part)
    };
    assert!(!path.is_empty() && path.split(':').all(trusted), "PATH={path}");
    Ok(())
}

#[test]
fn nothing_else_of_the_caller_gets_in() -> Result<()> {
    let scene = Scene::set()?;
    let seen = hostile(&scene)?;
    assert_eq!(seen["uid"], json!([0, 0]));
    assert_eq!(seen["gid"], json!([0, 0]));
    let groups: Vec<u32> = serde_json::from_value(seen["groups"].clone())?;
    assert!(groups.iter().all(|group| *group == 0), "{groups:?}");
    let descriptors: Vec<&String> = seen["descriptors"].as_object().unwrap().keys().collect();
    assert_eq!(descriptors, ["0", "1", "2"]);
    assert_eq!(seen["status"]["Umask"], "0027");
    let mask = |name: &str| u64::from_str_radix(seen["status"][name].as_str().unwrap(), 16).unwrap();
    // Rust's own start ignores SIGPIPE (13); 32 and 33 are the C library's.
    let runtime = (1 << 12) | (1 << 31) | (1 << 32);
    assert_eq!(mask("SigIgn") & !runtime, 0, "{seen}");
    assert_eq!(mask("SigBlk"), 0, "{seen}");
    assert_eq!(seen["status"]["NoNewPrivs"], "0");
    assert_eq!(
        seen["status"]["Seccomp_filters"], "0",
        "what the elevator does to itself must not reach what it launches"
    );
    assert_ne!(seen["limits"]["Max open files"].as_str().unwrap().split(' ').next(), Some("333"));
    assert_eq!(seen["limits"]["Max core file size"].as_str().unwrap().split(' ').next(), Some("0"));
    assert_eq!(seen["personality"], "00000000");
    assert_eq!(seen["terminal"], Value::Null);
    // Its own session, its own process group: no job of the caller's shell.
    assert_eq!(seen["session"], seen["parent"], "its session leads the terminal session, too");
    assert_eq!(seen["process_group"], seen["pid"]);
    Ok(())
}
