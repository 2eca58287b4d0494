//! The kernel's capabilities (capabilities(7)) by their names, as a set. A name that this version does not know is an error:
//! a right that nobody understands is not passed on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// By their numbers, without the `CAP_` before them.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Some capabilities; in JSON the list of their names, such as `["net_raw", "net_admin"]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Capabilities(u64);

impl Capabilities {
    /// No contained program is given one of these, whatever a list says: each undoes the containment.
    pub const NEVER_CONTAINED: Self = Self::named(&[
        "sys_admin",
        "sys_module",
        "sys_rawio",
        "sys_ptrace",
        "sys_boot",
        "bpf",
        "perfmon",
        "mknod",
        "setfcap",
        "fsetid",
    ]);

    /// Whoever has one of these outside a containment can become root with it.
    pub const EQUAL_ROOT: Self = Self::named(&[
        "chown",
        "dac_override",
        "dac_read_search",
        "fowner",
        "fsetid",
        "setgid",
        "setuid",
        "setpcap",
        "sys_module",
        "sys_rawio",
        "sys_chroot",
        "sys_ptrace",
        "sys_admin",
        "sys_boot",
        "mknod",
        "setfcap",
        "mac_override",
        "mac_admin",
        "perfmon",
        "bpf",
        "checkpoint_restore",
    ]);

    /// What changing mounts and namespaces takes, and much else.
    pub const SYS_ADMIN: Self = Self::named(&["sys_admin"]);

    /// The set of these names, each of which is known.
    const fn named(names: &[&str]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            let mut number = 0;
            while !same(NAMES[number], names[at]) {
                number += 1;
            }
            bits |= 1 << number;
            at += 1;
        }
        Self(bits)
    }

    /// As the kernel has them: bit *n* is capability number *n*.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether the other set has all of these.
    pub fn is_within(self, wider: Self) -> bool {
        self.0 & !wider.0 == 0
    }

    /// Those that the other set has, too.
    pub fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Their names, by number.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .enumerate()
            .filter(move |(number, _)| self.0 & (1 << number) != 0)
            .map(|(_, name)| name)
    }
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// As people write them: with commas or blanks between, with or without `CAP_`, in either case.
impl FromStr for Capabilities {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let words = text.split(|character: char| character == ',' || character.is_whitespace());
        let mut bits = 0;
        for word in words.filter(|word| !word.is_empty()) {
            let lower = word.to_ascii_lowercase();
            let name = lower.strip_prefix("cap_").unwrap_or(&lower);
            let number = NAMES.iter().position(|known| *known == name);
            bits |= 1 << number.ok_or_else(|| UnknownCapability(word.to_owned()))?;
        }
        Ok(Self(bits))
    }
}

/// Names with commas between them.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// The kernel's capabilities have no such name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCapability(String);

impl fmt::Display for UnknownCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no capability {:?}; expected names such as net_raw or net_bind_service", self.0)
    }
}

impl std::error::Error for UnknownCapability {}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bits = 0;
        for name in Vec::<String>::deserialize(deserializer)? {
            let number = NAMES.iter().position(|known| *known == name);
            bits |= 1 << number.ok_or_else(|| serde::de::Error::custom(UnknownCapability(name)))?;
        }
        Ok(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_the_kernel_has_them() {
        let bits = |names: &str| names.parse::<Capabilities>().map(Capabilities::bits);
        assert_eq!(bits("CAP_CHOWN"), Ok(1));
        assert_eq!(bits("net_raw, sys_admin"), Ok(1 << 13 | 1 << 21));
        assert_eq!(bits("setfcap mknod"), Ok(1 << 31 | 1 << 27));
        assert_eq!(bits("checkpoint_restore"), Ok(1 << 40));
        assert_eq!(bits(""), Ok(0));
        assert!(bits("net_row").is_err());
    }

    #[test]
    fn a_set_survives_json_and_an_unknown_name_does_not() {
        let set: Capabilities = "net_raw net_admin".parse().expect("known");
        assert_eq!(serde_json::to_string(&set).expect("writes"), r#"["net_admin","net_raw"]"#);
        assert_eq!(serde_json::from_str::<Capabilities>(r#"["net_raw","net_admin"]"#).expect("reads"), set);
        assert!(serde_json::from_str::<Capabilities>(r#"["omnipotence"]"#).is_err());
        assert!(
            serde_json::from_str::<Capabilities>(r#"["CAP_NET_RAW"]"#).is_err(),
            "documents have one spelling"
        );
    }

    #[test]
    fn every_capability_that_undoes_a_containment_equals_root_without_one() {
        assert!(Capabilities::NEVER_CONTAINED.is_within(Capabilities::EQUAL_ROOT));
    }
}
