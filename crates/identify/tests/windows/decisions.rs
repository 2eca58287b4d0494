//! The same decision function as on Linux decides about programs of Windows, by what was measured of them.

use std::io::Cursor;

use elevon_identify::upload::{Format, Signed, Upload, measure};
use elevon_identify::windows::Trust;
use elevon_policy::application::{Application, Lane, User};
use elevon_policy::bundle::{Bundle, Deployed, DeployedTo};
use elevon_policy::decide::{Attempt, Holdings, Reason, Verdict, decide};
use elevon_policy::id::Version;
use elevon_policy::lists::{AppliesTo, PrivilegedApplicationList, Terms, Way};
use elevon_policy::rule::{ArgumentPattern, Finding, Listed, Missing, Outcome, Recognises, Rule};
use elevon_policy::text::{OsText, Text};

use crate::sample::{Authority, Wanted, package, program, sign};
use crate::{PUBLISHER, World, at, stamper, year};

const PATH: &str = r"C:\Program Files\Example\tool.exe";
const PRODUCT: &str = "Example Tool";

impl World {
    fn measure(&self, file: &[u8]) -> Upload {
        let trust = Trust { authorities: &self.authorities, revoked: &self.revoked, now: self.now };
        measure(&mut Cursor::new(file), &trust).expect("it can be measured")
    }
}

fn lying_at(path: &str, upload: Upload) -> Application {
    Application {
        path: OsText::from(path),
        sha256: upload.sha256,
        size: upload.size,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: upload.package,
        package_database: true,
        component: None,
    }
}

fn by_vendor() -> Recognises {
    Recognises::Vendor { vendor: Text::new(PUBLISHER), verified: true }
}

fn by_product() -> Recognises {
    Recognises::Product { product: Text::new(PRODUCT), vendor: Text::new(PUBLISHER) }
}

fn by_name(file_name: &str) -> Recognises {
    let (product, vendor) = (Text::new(PRODUCT), Text::new(PUBLISHER));
    Recognises::VerifiedExecutable { product, vendor, file_name: OsText::from(file_name) }
}

/// Whether a list with this one rule lets it run, and if not, what the rule found.
fn decided(
    application: &Application,
    recognises: Recognises,
    minimum: Option<&str>,
) -> Result<(), Option<Finding>> {
    let id = "01900000-0000-7000-8000-000000000001";
    let rule = Rule {
        id: id.parse().unwrap(),
        recognises,
        arguments: ArgumentPattern::Any,
        minimum_version: minimum.map(Text::new),
        outcome: Outcome::Allow,
        elevate: None,
        terms: None,
    };
    let policy = PrivilegedApplicationList {
        id: id.parse().unwrap(),
        version: Version::FIRST,
        name: Text::new("Tools"),
        description: Text::default(),
        enabled: true,
        elevate: Way::Automatic,
        applies_to: AppliesTo::SpecificApplications,
        rules: vec![Listed::Rule(rule)].into(),
        terms: Terms::default(),
    };
    let deployed = Deployed { policy, users: DeployedTo::Everyone };
    let bundle = Bundle { privileged_application_lists: vec![deployed], ..Bundle::default() };
    let user = User { uid: 1000, name: Text::new("alice") };
    let attempt = Attempt {
        user: &user,
        computer: id.parse().unwrap(),
        application,
        argv: &[OsText::from(PATH)],
        nested: false,
    };
    let decision = decide(&Holdings { bundle: &bundle, locks: &[], grants: &[] }, &attempt, at(year(2030)));
    match decision.verdict {
        Verdict::Refused { .. } => {
            Err(decision.reasons.into_iter().map(|Reason { finding, .. }| finding).next())
        }
        _ => Ok(()),
    }
}

fn nearly(missing: Missing) -> Result<(), Option<Finding>> {
    Err(Some(Finding::Nearly { missing }))
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn rules_recognise_what_its_publisher_signed() {
    let root = Authority::new("Example Root");
    let signed = sign(&program(), &root.issue(&Wanted::code_signing(PUBLISHER)), None, &[]);
    let upload = World::trusting(&[&root]).measure(&signed);
    assert_eq!(upload.format, Format::WindowsProgram);
    assert!(
        matches!(&upload.signature, Some(Signed::Holds { publisher, .. }) if *publisher == Text::new(PUBLISHER))
    );
    let sha256 = upload.sha256;
    let tool = lying_at(PATH, upload);
    let by_hash = Recognises::FileHash { sha256, display_name: Text::default() };
    for recognises in [by_vendor(), by_product(), by_name("tool.exe"), by_hash] {
        assert_eq!(decided(&tool, recognises.clone(), None), Ok(()), "{recognises:?}");
    }
    // The version resource says 2.1.4.3.
    for (minimum, late_enough) in
        [("2.1", true), ("2.1.4.3", true), ("2.1.4.4", false), ("10", false), ("x", false)]
    {
        assert_eq!(decided(&tool, by_product(), Some(minimum)).is_ok(), late_enough, "{minimum}");
    }
    let other = Text::new("Somebody Else");
    let others = [
        Recognises::Vendor { vendor: other.clone(), verified: false },
        Recognises::Product { product: Text::new(PRODUCT), vendor: other.clone() },
        Recognises::Product { product: Text::new("Other Tool"), vendor: Text::new(PUBLISHER) },
        by_name("other.exe"),
        by_name(PATH),
    ];
    for recognises in others {
        assert!(decided(&tool, recognises.clone(), None).is_err(), "{recognises:?}");
    }
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn no_rule_on_publishers_recognises_what_its_signature_does_not_hold_for() {
    let root = Authority::new("Example Root");
    let world = World::trusting(&[&root]);
    let sign_by = |wanted: &Wanted, by: &Authority| sign(&program(), &by.issue(wanted), None, &[]);
    let signed = sign_by(&Wanted::code_signing(PUBLISHER), &root);
    let mut changed = signed.clone();
    changed[0x200] ^= 1;
    let ended = Wanted { years: (2020, 2025), ..Wanted::code_signing(PUBLISHER) };
    let stamped = sign(&program(), &root.issue(&ended), Some((&root.issue(&stamper()), year(2023))), &[]);
    let appended = [signed.as_slice(), b"payload\0"].concat();
    let elsewhere = Authority::new("Example Root");
    for (what, file) in [
        ("a byte changed", &changed),
        ("bytes behind the certificate area", &appended),
        ("expired without a time stamp", &sign_by(&ended, &root)),
        ("the same name from another authority", &sign_by(&Wanted::code_signing(PUBLISHER), &elsewhere)),
    ] {
        let upload = world.measure(file);
        let Some(Signed::Refused { claims, .. }) = upload.signature.clone() else { panic!("{what}") };
        let tool = lying_at(PATH, upload);
        for recognises in [by_vendor(), by_product(), by_name("tool.exe")] {
            let decided = decided(&tool, recognises, None);
            // Whom it names is only told, so that people see what is missing; it is not even read of what has more in it.
            match &claims {
                Some(_) => assert_eq!(decided, nearly(Missing::Signature), "{what}"),
                None => assert!(decided.is_err() && what.contains("behind"), "{what}"),
            }
        }
    }
    let expired_but_stamped = lying_at(PATH, world.measure(&stamped));
    assert_eq!(decided(&expired_but_stamped, by_product(), None), Ok(()));
    let unsigned = lying_at(PATH, world.measure(&program()));
    assert_eq!(decided(&unsigned, by_product(), None), nearly(Missing::OtherVendor { vendor: None }));
    assert!(decided(&unsigned, by_vendor(), None).is_err());
}

#[test]
#[ignore = "needs osslsigncode: `cargo xtask test windows`"]
fn an_installer_is_recognised_by_its_publisher() {
    let root = Authority::new("Example Root");
    let signed = sign(&package(), &root.issue(&Wanted::code_signing(PUBLISHER)), None, &[]);
    let upload = World::trusting(&[&root]).measure(&signed);
    assert_eq!(upload.format, Format::WindowsInstaller);
    let installer = lying_at(r"C:\Temp\tool.msi", upload);
    assert_eq!(decided(&installer, by_product(), None), Ok(()));
    assert!(decided(&installer, by_product(), Some("1")).is_err(), "it does not say which version it is");
    let of_other = lying_at(PATH, World::trusting(&[&Authority::new("Example Root")]).measure(&signed));
    assert!(decided(&of_other, by_product(), None).is_err());
}
