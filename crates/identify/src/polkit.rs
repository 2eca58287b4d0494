//! The actions that a file of polkit's defines (`/usr/share/polkit-1/actions/*.policy`; polkit(8), "Declaring actions"). The
//! file is XML, of which only this is looked for: the `id` of each `<action>` that is no comment. polkit itself reads the
//! file properly, and asks nobody about an action that it does not find there; what is found here in addition is asked about
//! by nobody.

/// Longest name of an action, in bytes.
const MAX_NAME: usize = 255;

/// Whether this can be the name of an action, or of a D-Bus service: ASCII letters, digits, `.`, `-` and `_`, a letter first.
pub fn is_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    name.first().is_some_and(u8::is_ascii_alphabetic) && name.len() <= MAX_NAME && name.iter().all(allowed)
}

/// The actions a file defines, in its order.
pub fn actions(file: &[u8]) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = file;
    while let Some(tag) = next(rest, b"<") {
        if let Some(comment) = tag.strip_prefix(b"!--") {
            let Some(after) = next(comment, b"-->") else { break };
            rest = after;
        } else if let Some(data) = tag.strip_prefix(b"![CDATA[") {
            let Some(after) = next(data, b"]]>") else { break };
            rest = after;
        } else {
            let end = end_of_tag(tag);
            let (inside, after) = tag.split_at(end);
            if let Some(attributes) = inside.strip_prefix(b"action").filter(|rest| starts_with_space(rest)) {
                let id = id(attributes).filter(|id| is_name(id));
                found.extend(id.and_then(|id| std::str::from_utf8(id).ok()));
            }
            rest = after;
        }
    }
    found
}

/// What follows the first `mark`.
fn next<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    bytes.get(at + mark.len()..)
}

fn starts_with_space(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_whitespace)
}

/// Where a tag ends: at a `>` that is in no quotes.
fn end_of_tag(tag: &[u8]) -> usize {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    tag.len()
}

/// The value of the attribute `id`.
fn id(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        attributes = attributes.trim_ascii_start();
        let equals = attributes.iter().position(|byte| *byte == b'=')?;
        let (name, value) = attributes.split_at(equals);
        let value = value.get(1..)?.trim_ascii_start();
        let (quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
        let end = value.iter().position(|byte| byte == quote)?;
        if name.trim_ascii_end() == b"id" {
            return value.get(..end);
        }
        attributes = value.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_found_as_they_are_written() {
        let file = br#"<?xml version="1.0" encoding="UTF-8"?>
            <!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN" "x">
            <policyconfig>
              <!-- <action id="org.example.commented-out"> > -->
              <action id="org.example.first"><description>a > b &lt;action id="x"&gt;</description></action>
              <action
                  class='a>b'  id = 'org.example.Second_2' >
                <annotate key="org.freedesktop.policykit.imply">org.example.not-defined</annotate>
              </action>
              <actions id="org.example.other-tag"/><action id="no good"/><action/>
              <![CDATA[<action id="org.example.text">]]>
              <action id="org.example.last"/>
            </policyconfig>"#;
        assert_eq!(actions(file), ["org.example.first", "org.example.Second_2", "org.example.last"]);
    }

    #[test]
    fn whatever_ends_early_defines_what_came_before() {
        let file = br#"<action id="org.example.a"/><action id="org.example.b"#;
        for end in 0..file.len() {
            let found = actions(&file[..end]);
            assert!(found.is_empty() || found == ["org.example.a"], "{found:?}");
        }
        assert!(actions(b"<!-- <action id='a'/>").is_empty());
        assert!(actions(b"<action id=a>").is_empty());
    }

    #[test]
    fn names_are_plain() {
        for name in ["org.freedesktop.login1.set-wall-message", "org.freedesktop.NetworkManager", "a"] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        let long = "a".repeat(256);
        for name in ["", ".a", "--help", "a b", "a/b", "ä", "a\0", &long] {
            assert!(!is_name(name.as_bytes()), "{name:?}");
        }
    }
}
