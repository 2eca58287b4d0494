//! *Add from file* in a list's editor: the form comes with a file, and goes back with what was measured and the rules there are
//! to choose from. What was measured stands in the form itself, as the whole draft does.

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::http::HeaderMap;
use axum::response::Response;
use elevon_identify::upload::{Format, Signed};
use elevon_policy::decide::ListKind;
use elevon_policy::id::PolicyId;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

use super::settings;
use crate::app::App;
use crate::auth::Administrator;
use crate::error::Error;
use crate::pages::failure::sentence;
use crate::pages::form::Form;
use crate::pages::frame::Frame;
use crate::policies::draft::kinds::KINDS;
use crate::policies::draft::rules;
use crate::uploads::offers::{self, Choice, Offer};
use crate::uploads::{self, Measured, api};

/// All that comes with a file may have so many bytes: a long list of rules.
pub(crate) const FORM: usize = 2 << 20;

/// A file that was measured, as the editor shows it.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) measured: Measured,
    pub(super) offers: Vec<Offer>,
}

impl Offered {
    /// What stands in the form; nothing where nothing was measured.
    pub(super) fn of(form: &Form) -> Option<Self> {
        let measured: Measured = serde_json::from_str(form.text("measured")).ok()?;
        Some(Self { offers: offers::offers(&measured), measured })
    }

    /// What the file is, in a few words.
    pub(super) fn is(&self) -> &'static str {
        match self.measured.upload.format {
            Format::Elf => "A program of Linux",
            Format::Script => "A script",
            Format::Deb => "A Debian package",
            Format::Rpm => "An RPM package",
            Format::WindowsProgram => "A program or library of Windows",
            Format::WindowsInstaller => "A package of Windows Installer",
        }
    }

    /// Whether rules of it wait for an agent that does not exist yet.
    pub(super) fn is_of_windows(&self) -> bool {
        matches!(self.measured.upload.format, Format::WindowsProgram | Format::WindowsInstaller)
    }

    /// What it says of itself, as rows of a table.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let upload = &self.measured.upload;
        let shown = |text: &Text| Some(text.visible().to_string()).filter(|text| !text.trim().is_empty());
        let package = upload.package.as_ref();
        let vendor = package.map(|package| match &package.vendor {
            Some(vendor) if vendor.verified => vendor.name.visible().to_string(),
            Some(vendor) => format!("{}, which nothing vouches for", vendor.name.visible()),
            None => "none that is named".to_owned(),
        });
        let programs = upload.programs.len() as u64 + upload.programs_left_out;
        [
            ("Package", package.and_then(|package| shown(&package.name))),
            ("Product", package.and_then(|package| shown(&package.product))),
            ("Version", package.and_then(|package| shown(&package.version))),
            ("Vendor", vendor),
            ("Signature", upload.signature.as_ref().map(signature)),
            ("Read by", upload.interpreter.as_ref().map(|path| path.visible().to_string())),
            ("Programs", (programs > 0).then(|| self.programs(programs))),
        ]
        .into_iter()
        .filter_map(|(name, told)| Some((name, told?)))
        .collect()
    }

    fn programs(&self, all: u64) -> String {
        match self.measured.upload.programs_left_out {
            0 => all.to_string(),
            left_out => format!("{all}; {} of them can be chosen here", all - left_out),
        }
    }

    /// What people call a kind of rule.
    pub(super) fn name(&self, offer: &Offer) -> &'static str {
        KINDS.iter().find(|kind| kind.word == offer.kind).map_or(offer.kind, |kind| kind.name)
    }

    /// What can be chosen, and whether it is complete.
    pub(super) fn choices<'a>(&self, offer: &'a Offer) -> &'a [Choice] {
        if offer.is_possible() { &offer.rules } else { &offer.drafts }
    }
}

fn signature(signed: &Signed) -> String {
    match signed {
        Signed::Holds { publisher, issuer, signed: None, .. } => {
            format!("by {}, as {} says", publisher.visible(), issuer.visible())
        }
        Signed::Holds { publisher, issuer, signed: Some(at), .. } => format!(
            "by {}, as {} says; time-stamped {}",
            publisher.visible(),
            issuer.visible(),
            crate::pages::moment::exact(*at)
        ),
        Signed::Refused { because, .. } => format!("not believed: {}", because.visible()),
    }
}

/// Adds the rule that was chosen of what was measured, or none; either way the file is done with.
pub(super) fn choose(form: &mut Form, kind: &str, now: Timestamp) {
    let offered = Offered::of(form);
    let chosen = form.text(format!("choice.{kind}")).parse().unwrap_or(0_usize);
    form.forget("measured");
    form.forget("choice.");
    let Some(offered) = offered else { return };
    let offer = offered.offers.iter().find(|offer| offer.kind == kind);
    if let Some(choice) = offer.and_then(|offer| offered.choices(offer).get(chosen)) {
        rules::add_recognising(form, choice.recognises.clone(), now);
    }
}

/// `POST …/new/measure` and `POST …/{id}/measure`
pub(super) async fn measure(
    app: App,
    frame: Frame,
    by: Administrator,
    kind: ListKind,
    id: Option<PolicyId>,
    headers: &HeaderMap,
    sent: Result<Multipart, MultipartRejection>,
) -> Result<Response, Error> {
    let sent = sent.map_err(|_| Error::invalid("expected a form with a file, as multipart/form-data"))?;
    let announced = api::length(headers).map(|length| length.saturating_sub(FORM as u64));
    let form = read(&app, &by, announced, sent).await?;
    settings::draft(app, frame, kind, id, form).await
}

async fn read(
    app: &App,
    by: &Administrator,
    announced: Option<u64>,
    mut sent: Multipart,
) -> Result<Form, Error> {
    let mut form = Form::default();
    let (mut length, mut found) = (0, None);
    while let Some(field) = sent.next_field().await.map_err(unread)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            found = Some(file(app, by, announced, field).await);
            continue;
        }
        let value = text(field, FORM.saturating_sub(length)).await?;
        length += name.len() + value.len();
        form.add(name, value);
    }
    form.forget("measured");
    form.forget("choice.");
    match found.unwrap_or(Err(Error::field("file", "choose a file first"))) {
        Ok(measured) => {
            let measured = serde_json::to_string(&measured);
            form.set(
                "measured",
                measured.map_err(|error| Error::internal("showing what was measured", error))?,
            );
        }
        Err(error @ (Error::Internal(_) | Error::Forbidden(_) | Error::Unauthenticated(_))) => {
            return Err(error);
        }
        Err(error) => form.refuse("file", sentence(&error.told().detail)),
    }
    Ok(form)
}

async fn file(
    app: &App,
    by: &Administrator,
    announced: Option<u64>,
    field: Field<'_>,
) -> Result<Measured, Error> {
    let name = field.file_name().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Error::field("file", "choose a file first"));
    }
    uploads::measure(app, by, &name, announced, field).await
}

/// A field of the form, which is never long.
async fn text(mut field: Field<'_>, most: usize) -> Result<String, Error> {
    let mut value = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(unread)? {
        if value.len() + piece.len() > most {
            return Err(Error::TooLarge {
                field: "form",
                sentence: "the form is longer than this server takes".into(),
            });
        }
        value.extend_from_slice(&piece);
    }
    String::from_utf8(value).map_err(|_| Error::invalid("what was typed is no UTF-8"))
}

fn unread(error: MultipartError) -> Error {
    match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge {
            field: "file",
            sentence: "what was sent is larger than this server takes".into(),
        },
        _ => Error::invalid("what was sent did not arrive as a whole; go back and send it again"),
    }
}
