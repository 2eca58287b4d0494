//! Files of Windows: what they say of themselves, and who signed them.

use elevon_policy::application::Sha256;
use elevon_policy::text::Text;
use ring::digest::{Context, SHA256};

use super::{Format, NotMeasured, Signed, Upload, broken, finished};
use crate::windows::authenticode::{self, Signature};
use crate::windows::facts::{self, Publisher};
use crate::windows::msi::Msi;
use crate::windows::pe::Pe;
use crate::windows::version::Version;
use crate::windows::{Refusal, Trust};

pub(super) fn program(bytes: &[u8], trust: &Trust<'_>) -> Result<Upload, NotMeasured> {
    let pe = Pe::read(bytes).map_err(broken)?;
    let signature = authenticode::verify(&pe, trust);
    let claims = authenticode::claims(&pe).ok().map(|claims| claims.publisher);
    Ok(Upload {
        package: Some(facts::of_program(&Version::of(&pe), publisher(&signature, claims.as_ref()))),
        signature: Some(told(signature, claims)),
        ..Upload::of(digest(bytes), Format::WindowsProgram)
    })
}

pub(super) fn installer(bytes: &[u8], trust: &Trust<'_>) -> Result<Upload, NotMeasured> {
    let mut msi = Msi::read(bytes).map_err(broken)?;
    let signature = msi.verify(trust);
    Ok(Upload {
        package: Some(facts::of_installer(&msi.summary(), publisher(&signature, None))),
        signature: Some(told(signature, None)),
        ..Upload::of(digest(bytes), Format::WindowsInstaller)
    })
}

fn publisher<'a>(signature: &'a Result<Signature, Refusal>, claims: Option<&'a Text>) -> Publisher<'a> {
    match (signature, claims) {
        (Ok(signature), _) => Publisher::Proven(signature),
        (Err(_), Some(name)) => Publisher::Claimed(name),
        (Err(_), None) => Publisher::Unknown,
    }
}

fn told(signature: Result<Signature, Refusal>, claims: Option<Text>) -> Signed {
    match signature {
        Ok(Signature { publisher, issuer, authority, signed, digest, .. }) => {
            Signed::Holds { publisher, issuer, authority, signed, digest }
        }
        Err(refusal) => Signed::Refused { because: Text::new(refusal.to_string()), claims },
    }
}

fn digest(bytes: &[u8]) -> (Sha256, u64) {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    (finished(context), bytes.len() as u64)
}
