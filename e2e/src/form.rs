//! Forms of a page, read as a browser without JavaScript reads them.

use anyhow::{Context, Result, bail};

/// A form, filled with what the page has put into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Where it goes; empty for the page itself.
    pub action: String,
    /// Whether it is posted.
    pub post: bool,
    /// Name and value of what would be sent, in the page's order; buttons are not among them.
    pub fields: Vec<(String, String)>,
    /// Every field there is, also those that would not be sent now (an unchecked box), with the values it offers.
    offered: Vec<(String, Option<String>)>,
    /// Buttons that send it somewhere else: where, and the name and value that go along.
    buttons: Vec<(String, Option<(String, String)>)>,
}

impl Form {
    /// A form that no page offered: what an attacker would send.
    pub fn posting(action: &str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { action: action.into(), post: true, fields, offered: Vec::new(), buttons: Vec::new() }
    }

    /// Fills in one field, which the form must have. A box is checked by setting it to its own value.
    pub fn set(mut self, name: &str, value: &str) -> Result<Self> {
        if !self.offered.iter().any(|(field, _)| field == name) {
            let known: Vec<_> = self.offered.iter().map(|(field, _)| field.as_str()).collect();
            bail!("the form to “{}” has no field {name}, only {}", self.action, known.join(", "));
        }
        self.fields.retain(|(field, _)| field != name);
        self.fields.push((name.into(), value.into()));
        Ok(self)
    }

    /// What a field would send.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The values that a choice offers.
    pub fn choices(&self, name: &str) -> Vec<&str> {
        self.offered
            .iter()
            .filter(|(field, _)| field == name)
            .filter_map(|(_, value)| value.as_deref())
            .collect()
    }
}

/// Every form of the page.
pub fn forms(html: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    let mut open: Option<Form> = None;
    let mut select: Option<Select> = None;
    let mut area: Option<(String, usize)> = None;
    for (tag, after) in tags(html) {
        match tag.name.as_str() {
            "form" => {
                let action = tag.value("action").unwrap_or_default();
                let post = tag.value("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                open =
                    Some(Form { action, post, fields: Vec::new(), offered: Vec::new(), buttons: Vec::new() });
            }
            "/form" => forms.extend(open.take()),
            "input" => open.iter_mut().for_each(|form| form.take_input(&tag)),
            "button" => open.iter_mut().for_each(|form| form.take_button(&tag)),
            "textarea" => area = tag.value("name").map(|name| (name, after)),
            "/textarea" => {
                if let (Some((name, start)), Some(form)) = (area.take(), open.as_mut()) {
                    let text = html.get(start..tag.start).unwrap_or_default();
                    form.take(&name, &unescape(text.strip_prefix('\n').unwrap_or(text)), true);
                }
            }
            "select" => select = tag.value("name").map(|name| Select { name, options: Vec::new() }),
            "option" => {
                if let Some(select) = select.as_mut() {
                    let text =
                        html.get(after..).and_then(|rest| rest.split('<').next()).unwrap_or_default().trim();
                    let value = tag.value("value").unwrap_or_else(|| unescape(text));
                    select.options.push((value, tag.has("selected")));
                }
            }
            "/select" => {
                if let (Some(select), Some(form)) = (select.take(), open.as_mut()) {
                    form.take_select(select);
                }
            }
            _ => {}
        }
    }
    forms
}

/// The form that goes to this place, by itself or by one of its buttons: the action ends with `to`.
pub fn form_to(html: &str, to: &str) -> Result<Form> {
    let all = forms(html);
    let places =
        all.iter().flat_map(|form| form.buttons.iter().map(|(action, _)| action).chain([&form.action]));
    let places: Vec<_> = places.cloned().collect();
    let found = all.into_iter().filter(|form| form.post).find_map(|form| form.going_to(to));
    found.with_context(|| {
        format!(
            "the page has no form to “{to}”, only to “{}”; the page:\n{}",
            places.join("”, “"),
            text_of(html)
        )
    })
}

/// What a page says, without its tags.
pub fn text_of(html: &str) -> String {
    let mut text = String::new();
    let mut end = 0;
    for (tag, after) in tags(html) {
        if !matches!(tag.name.as_str(), "/script" | "/style") {
            text.push_str(html.get(end..tag.start).unwrap_or_default());
        }
        text.push(' ');
        end = after;
    }
    text.push_str(html.get(end..).unwrap_or_default());
    unescape(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

struct Select {
    name: String,
    options: Vec<(String, bool)>,
}

impl Form {
    fn take(&mut self, name: &str, value: &str, sent: bool) {
        self.offered.push((name.into(), Some(value.into())));
        if sent {
            self.fields.push((name.into(), value.into()));
        }
    }

    fn take_input(&mut self, tag: &Tag) {
        let Some(name) = tag.value("name") else { return };
        let kind = tag.value("type").unwrap_or_else(|| "text".into());
        let checkable = matches!(kind.as_str(), "checkbox" | "radio");
        let value = tag.value("value").unwrap_or_else(|| if checkable { "on".into() } else { String::new() });
        match kind.as_str() {
            "submit" | "button" | "reset" | "image" | "file" => {}
            _ if tag.has("disabled") => {}
            _ => self.take(&name, &value, !checkable || tag.has("checked")),
        }
    }

    fn take_button(&mut self, tag: &Tag) {
        if let Some(action) = tag.value("formaction") {
            let sent = tag.value("name").map(|name| (name, tag.value("value").unwrap_or_default()));
            self.buttons.push((action, sent));
        }
    }

    /// This form as the button that leads there sends it, where there is one.
    fn going_to(mut self, to: &str) -> Option<Self> {
        if self.action.ends_with(to) {
            return Some(self);
        }
        let at = self.buttons.iter().position(|(action, _)| action.ends_with(to))?;
        let (action, sent) = self.buttons.swap_remove(at);
        self.action = action;
        self.fields.extend(sent);
        Some(self)
    }

    fn take_select(&mut self, select: Select) {
        let chosen = select.options.iter().position(|(_, selected)| *selected).unwrap_or(0);
        for (at, (value, _)) in select.options.iter().enumerate() {
            self.take(&select.name, value, at == chosen);
        }
    }
}

struct Tag {
    name: String,
    start: usize,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn value(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| unescape(value))
    }

    fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(key, _)| key == name)
    }
}

/// Every tag with the place behind it. Enough HTML for pages that the console itself wrote.
fn tags(html: &str) -> Vec<(Tag, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = html.get(at..).and_then(|rest| rest.find('<')).map(|found| at + found) {
        let inside = start + 1;
        if html[inside..].starts_with("!--") {
            at = html[inside..].find("-->").map_or(html.len(), |end| inside + end + 3);
            found.push((Tag { name: "!--".into(), start, attributes: Vec::new() }, at));
            continue;
        }
        let (tag, after) = tag(html, start);
        at = after;
        found.push((tag, after));
    }
    found
}

fn tag(html: &str, start: usize) -> (Tag, usize) {
    let bytes = html.as_bytes();
    let is_space = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_whitespace);
    let until = |mut at: usize, stops: &[u8]| {
        while at < bytes.len() && !is_space(at) && !stops.contains(&bytes[at]) {
            at += 1;
        }
        at
    };
    let name_end = until(start + 1, b">");
    let name = html[start + 1..name_end].trim_end_matches('/').to_ascii_lowercase();
    let mut tag = Tag { name, start, attributes: Vec::new() };
    let mut at = name_end;
    loop {
        while is_space(at) || bytes.get(at) == Some(&b'/') {
            at += 1;
        }
        match bytes.get(at) {
            None => return (tag, html.len()),
            Some(b'>') => return (tag, at + 1),
            Some(_) => {}
        }
        let key_end = until(at, b"=>").max(at + 1);
        let key = html[at..key_end].to_ascii_lowercase();
        at = key_end;
        let mut value = String::new();
        if bytes.get(at) == Some(&b'=') {
            at += 1;
            let (from, to, next) = match bytes.get(at) {
                Some(quote @ (b'"' | b'\'')) => {
                    let end = bytes[at + 1..]
                        .iter()
                        .position(|byte| byte == quote)
                        .map_or(bytes.len(), |end| at + 1 + end);
                    (at + 1, end, end + 1)
                }
                _ => {
                    let end = until(at, b">");
                    (at, end, end)
                }
            };
            value = html.get(from..to).unwrap_or_default().into();
            at = next;
        }
        tag.attributes.push((key, value));
    }
}

/// The character references that an encoder writes.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(';').filter(|end| *end <= 10);
        let reference = end.and_then(|end| character(&rest[1..end]).map(|character| (character, end)));
        let (character, length) = reference.map_or(('&', 1), |(character, end)| (character, end + 1));
        plain.push(character);
        rest = &rest[length..];
    }
    plain + rest
}

fn character(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        number => {
            let digits = number.strip_prefix('#')?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_reads_as_a_browser_reads_it() {
        let html = r#"<!-- <form action="/no"> --><p>a &lt; b</p>
            <form method="post" action="/requests/1/approve?a=1&amp;b=2"><input type=hidden name=seen value="3">
            <select name="duration"><option value="15m">15 minutes</option><option selected>30m</option></select>
            <textarea name="comment">
it&#39;s &quot;fine&quot;</textarea>
            <input type="radio" name="covers" value="exact_arguments" checked><input type="radio" name="covers" value="any_arguments">
            <input type="checkbox" name="sure"/><button name="go" value="1">Approve</button>
            <button formaction="/requests/1/decline" name="no" value="2">Decline</button></form>"#;
        let form = form_to(html, "b=2").expect("has it");
        let sent = |name| form.value(name);
        assert_eq!(form.action, "/requests/1/approve?a=1&b=2");
        assert_eq!(sent("seen"), Some("3"));
        assert_eq!(sent("duration"), Some("30m"));
        assert_eq!(sent("comment"), Some("it's \"fine\""));
        assert_eq!(sent("covers"), Some("exact_arguments"));
        assert_eq!(sent("sure"), None);
        assert_eq!(form.choices("duration"), ["15m", "30m"]);
        assert_eq!(form.clone().set("sure", "on").expect("a box").value("sure"), Some("on"));
        assert!(form.set("nothing", "1").is_err());
        let other = form_to(html, "/decline").expect("its button leads there");
        assert_eq!((other.action.as_str(), other.value("no")), ("/requests/1/decline", Some("2")));
        assert!(text_of(html).starts_with("a < b"));
    }
}
