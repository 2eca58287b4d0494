//! Which of the six kinds of rules can be made of a file, the strongest one that lasts first; and why the others cannot.

use std::collections::BTreeSet;

use elevon_identify::upload::{Format, Inside, Signed, Upload};
use elevon_policy::application::{Package, Vendor};
use elevon_policy::rule::Recognises;
use elevon_policy::text::{OsText, Text};
use serde::Serialize;

use super::Measured;

/// A kind of rule, and what it would be for this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// The kind, as rules name it.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Why one would choose it; or why it cannot be made.
    pub sentence: String,
    /// The rules there are to choose from; none where it cannot be made.
    pub rules: Vec<Choice>,
    /// What is known of rules that cannot be made yet: their vendor is left to whoever writes them.
    #[serde(skip)]
    pub drafts: Vec<Choice>,
}

/// A rule that can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What it is about, where a package has several.
    pub about: OsText,
    /// The rule's own part, as a list holds it.
    pub recognises: Recognises,
}

impl Offer {
    fn possible(kind: &'static str, sentence: impl Into<String>, rules: Vec<Choice>) -> Self {
        Self { kind, sentence: sentence.into(), rules, drafts: Vec::new() }
    }

    fn impossible(kind: &'static str, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into(), rules: Vec::new(), drafts: Vec::new() }
    }

    /// Whether there is a rule to choose.
    pub fn is_possible(&self) -> bool {
        !self.rules.is_empty()
    }
}

/// All six kinds, those that are possible first.
pub fn offers(measured: &Measured) -> Vec<Offer> {
    let file = File::of(measured);
    let mut offers = vec![
        file.verified_executable(),
        file.product(),
        file.vendor(),
        file.component(),
        file.folder(),
        file.hash(),
    ];
    offers.sort_by_key(|offer| !offer.is_possible());
    offers
}

struct File<'a> {
    measured: &'a Measured,
    upload: &'a Upload,
    /// What is said of product and vendor, or why nothing of it can be believed.
    made: Result<&'a Package, String>,
}

impl<'a> File<'a> {
    fn of(measured: &'a Measured) -> Self {
        let upload = &measured.upload;
        Self { measured, upload, made: made(upload) }
    }

    fn is_package(&self) -> bool {
        matches!(self.upload.format, Format::Deb | Format::Rpm)
    }

    /// What would run: the programs in a package, or the file itself.
    fn programs(&self) -> Vec<Inside> {
        if self.is_package() {
            return self.upload.programs.clone();
        }
        let Upload { sha256, size, .. } = *self.upload;
        vec![Inside { path: self.measured.name.clone(), sha256, size }]
    }

    fn verified_executable(&self) -> Offer {
        const KIND: &str = "verified_executable";
        let rule = |package: &Package, vendor: &Text| {
            let rule = |program: Inside| Choice {
                recognises: Recognises::VerifiedExecutable {
                    product: package.product.clone(),
                    vendor: vendor.clone(),
                    file_name: program.path.file_name(),
                },
                about: program.path,
            };
            self.programs().into_iter().map(rule).collect()
        };
        let whole = match self.upload.format {
            Format::WindowsProgram | Format::WindowsInstaller => "as long as its signature holds",
            _ => "as long as it is the file that its package recorded",
        };
        self.of_product(KIND, &format!("Lasts through updates: this one file of the product, {whole}."), rule)
    }

    fn product(&self) -> Offer {
        let rule = |package: &Package, vendor: &Text| {
            let (product, vendor) = (package.product.clone(), vendor.clone());
            let about = OsText::from(product.as_untrusted());
            vec![Choice { about, recognises: Recognises::Product { product, vendor } }]
        };
        let sentence = "Lasts through updates: every program of the product, those of later versions too.";
        self.of_product("product", sentence, rule)
    }

    /// A rule that needs product and vendor.
    fn of_product(
        &self,
        kind: &'static str,
        sentence: &str,
        rules: impl Fn(&Package, &Text) -> Vec<Choice>,
    ) -> Offer {
        let package = match &self.made {
            Ok(package) if is_empty(&package.product) => return Offer::impossible(kind, NO_PRODUCT),
            Ok(package) => package,
            Err(why) => return Offer::impossible(kind, why),
        };
        let Some(vendor) = &package.vendor else {
            let drafts = rules(package, &Text::default());
            return Offer { drafts, ..Offer::impossible(kind, NO_VENDOR) };
        };
        let rules = rules(package, &vendor.name);
        match rules.is_empty() {
            true => Offer::impossible(kind, NO_PROGRAM),
            false => Offer::possible(kind, format!("{sentence}{}", caution(vendor)), rules),
        }
    }

    fn vendor(&self) -> Offer {
        const KIND: &str = "vendor";
        match self.made.as_ref().map(|package| package.vendor.as_ref()) {
            Ok(Some(vendor)) => {
                let recognises =
                    Recognises::Vendor { vendor: vendor.name.clone(), verified: vendor.verified };
                let about = OsText::from(vendor.name.as_untrusted());
                let sentence = "Lasts longest and is the widest: whatever the vendor makes.";
                let rules = vec![Choice { about, recognises }];
                Offer::possible(KIND, format!("{sentence}{}", caution(vendor)), rules)
            }
            Ok(None) => Offer::impossible(KIND, NO_VENDOR),
            Err(why) => Offer::impossible(KIND, why),
        }
    }

    fn component(&self) -> Offer {
        const KIND: &str = "clsid";
        let rules: Vec<_> = self
            .upload
            .components
            .iter()
            .map(|component| Choice {
                about: OsText::from(component.as_untrusted()),
                recognises: Recognises::Clsid { component: component.clone() },
            })
            .collect();
        if !rules.is_empty() {
            return Offer::possible(
                KIND,
                "Lasts through updates: lets users do what this package asks polkit about, without starting a program as root.",
                rules,
            );
        }
        Offer::impossible(
            KIND,
            match self.upload.format {
                Format::WindowsProgram | Format::WindowsInstaller => {
                    "Which COM classes it registers shows only on a computer where it is installed."
                }
                Format::Deb | Format::Rpm => "The package defines no component (polkit action).",
                Format::Elf | Format::Script => {
                    "A program by itself defines no component (polkit action); its package may."
                }
            },
        )
    }

    fn folder(&self) -> Offer {
        const KIND: &str = "folder_path";
        let folders: BTreeSet<_> = match self.is_package() {
            true => self.upload.programs.iter().filter_map(|program| folder(&program.path)).collect(),
            false => BTreeSet::new(),
        };
        if folders.is_empty() {
            return Offer::impossible(
                KIND,
                match self.is_package() {
                    true => NO_PROGRAM,
                    false => {
                        "An upload lies in no folder; which one it lies in on computers has to be written by hand."
                    }
                },
            );
        }
        let rules = folders
            .into_iter()
            .map(|folder| Choice {
                recognises: Recognises::FolderPath { path: folder.clone(), with_subfolders: false },
                about: folder,
            })
            .collect();
        Offer::possible(
            KIND,
            "Lasts through updates, and is about everything in the folder, whoever made it: for a folder of this product alone.",
            rules,
        )
    }

    fn hash(&self) -> Offer {
        const KIND: &str = "file_hash";
        let rules: Vec<_> = self
            .programs()
            .into_iter()
            .map(|program| Choice {
                recognises: Recognises::FileHash {
                    sha256: program.sha256,
                    display_name: Text::new(program.path.file_name().escaped()),
                },
                about: program.path,
            })
            .collect();
        if rules.is_empty() {
            return Offer::impossible(KIND, NO_PROGRAM);
        }
        Offer::possible(
            KIND,
            "The strictest, and does not last: these very bytes, wherever they lie. The next update is another file.",
            rules,
        )
    }
}

const NO_PROGRAM: &str = "There is no program in this package.";
const NO_VENDOR: &str = "The package names no vendor. Computers take it from the signed index that lists the package; write it as they show it, such as Debian.";
const NO_PRODUCT: &str = "The file does not say which product it belongs to.";

/// What it says of product and vendor; or why nothing can rest on that.
fn made(upload: &Upload) -> Result<&Package, String> {
    if let Some(Signed::Refused { because, claims }) = &upload.signature {
        let claimed = claims.as_ref().map_or_else(String::new, |name| {
            format!(", though it names {} as its publisher", name.visible())
        });
        return Err(format!("Nobody can be believed to have made it: {}{claimed}.", because.visible()));
    }
    upload.package.as_ref().ok_or_else(|| {
        "A program by itself does not say who made it; send the package that it comes from.".to_owned()
    })
}

fn caution(vendor: &Vendor) -> &'static str {
    match vendor.verified {
        true => "",
        false => " No signature stands behind the vendor’s name here: anybody can write it into a package.",
    }
}

fn is_empty(text: &Text) -> bool {
    text.as_untrusted().trim().is_empty()
}

fn folder(path: &OsText) -> Option<OsText> {
    let end = path.as_bytes().iter().rposition(|byte| *byte == b'/')?;
    path.as_bytes().get(..end).filter(|folder| !folder.is_empty()).map(OsText::new)
}

#[cfg(test)]
mod tests {
    use elevon_policy::application::{PackageSystem, Sha256};

    use super::*;

    fn of_windows(signature: Signed, product: &str) -> Measured {
        let verified = matches!(signature, Signed::Holds { .. });
        let package = Package {
            system: PackageSystem::Windows,
            name: Text::new("tool.exe"),
            product: Text::new(product),
            version: Text::new("2.1.4.3"),
            vendor: Some(Vendor { name: Text::new("Example Tools Inc."), verified }),
            unmodified: verified,
        };
        let upload = Upload {
            sha256: Sha256([7; 32]),
            size: 4096,
            format: Format::WindowsProgram,
            interpreter: None,
            package: Some(package),
            signature: Some(signature),
            programs: Vec::new(),
            programs_left_out: 0,
            components: Vec::new(),
        };
        Measured { name: "Setup Tool.exe".into(), upload }
    }

    fn holds() -> Signed {
        Signed::Holds {
            publisher: Text::new("Example Tools Inc."),
            issuer: Text::new("Example CA"),
            authority: Sha256([1; 32]),
            signed: None,
            digest: "07".repeat(32),
        }
    }

    fn possible(offers: &[Offer]) -> Vec<&str> {
        offers.iter().filter(|offer| offer.is_possible()).map(|offer| offer.kind).collect()
    }

    #[test]
    fn a_signed_program_of_windows_offers_its_publisher() {
        let offers = offers(&of_windows(holds(), "Example Tool"));
        assert_eq!(possible(&offers), ["verified_executable", "product", "vendor", "file_hash"]);
        let file_name = OsText::from("Setup Tool.exe");
        let (product, vendor) = (Text::new("Example Tool"), Text::new("Example Tools Inc."));
        let expected = Recognises::VerifiedExecutable { product, vendor: vendor.clone(), file_name };
        assert_eq!(offers[0].rules[0].recognises, expected);
        assert_eq!(offers[2].rules[0].recognises, Recognises::Vendor { vendor, verified: true });
        assert!(offers[0].sentence.ends_with("as long as its signature holds."), "{}", offers[0].sentence);
    }

    #[test]
    fn what_a_program_does_not_prove_is_not_offered() {
        assert_eq!(possible(&offers(&of_windows(holds(), " "))), ["vendor", "file_hash"]);
        let because = Text::new("its bytes are not those that were signed");
        let refused = Signed::Refused { because, claims: Some(Text::new("Example \u{202e}Tools")) };
        let offers = offers(&of_windows(refused, "Example Tool"));
        assert_eq!(possible(&offers), ["file_hash"]);
        let told = &offers[1].sentence;
        assert!(told.contains("its bytes are not those that were signed, though it names Example"), "{told}");
        assert!(!told.contains('\u{202e}') && offers.iter().all(|offer| offer.drafts.is_empty()), "{told}");
    }
}
