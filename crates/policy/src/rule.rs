//! One rule recognises applications. What it cannot evaluate it does not recognise, and it says so.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::application::{Application, Lane, Package, PackageSystem, Sha256};
use crate::id::RuleId;
use crate::lists::{Terms, Way};
use crate::pattern::Pattern;
use crate::text::{OsText, Text};
use crate::version;

/// A rule as it stands in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its identity across versions of the list.
    pub id: RuleId,
    /// Which applications it is about.
    pub recognises: Recognises,
    /// With which arguments.
    #[serde(default)]
    pub arguments: ArgumentPattern,
    /// From which version on, compared as the package system compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_version: Option<Text>,
    /// What follows when it matches. Only privileged application lists deny; an allowlist's or blocklist's rule allows.
    #[serde(default)]
    pub outcome: Outcome,
    /// Its own way to elevate, in place of the list's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elevate: Option<Way>,
    /// Its own terms, in place of the list's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// What follows when a rule of a privileged application list matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It may be elevated, the way the list or the rule says.
    #[default]
    Allow,
    /// It may not, whatever any other rule says.
    Deny,
}

/// The six ways to recognise an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Recognises {
    /// By who made it.
    Vendor {
        /// The vendor's name.
        vendor: Text,
        /// Whether only a name that a signature stands behind counts.
        #[serde(default)]
        verified: bool,
    },
    /// By product and vendor.
    Product {
        /// The source package's name.
        product: Text,
        /// The vendor's name.
        vendor: Text,
    },
    /// By product, vendor and file name, unmodified since its package.
    VerifiedExecutable {
        /// The source package's name.
        product: Text,
        /// The vendor's name.
        vendor: Text,
        /// The file's name, without folders.
        file_name: OsText,
    },
    /// By the digest of its bytes.
    FileHash {
        /// Digest of the bytes that run.
        sha256: Sha256,
        /// What people call it; it decides nothing.
        #[serde(default)]
        display_name: Text,
    },
    /// By a component identifier: a polkit action on Linux.
    Clsid {
        /// Such as `org.freedesktop.packagekit.package-install`.
        component: Text,
    },
    /// By where it lies, where nobody but root can write.
    FolderPath {
        /// Absolute path of the folder.
        path: OsText,
        /// Whether folders below it count.
        #[serde(default)]
        with_subfolders: bool,
    },
}

impl Recognises {
    /// How narrow it is; the narrowest rule that matches wins.
    pub fn specificity(&self) -> Specificity {
        match self {
            Self::FileHash { .. } => Specificity::FileHash,
            Self::VerifiedExecutable { .. } => Specificity::VerifiedExecutable,
            Self::Product { .. } => Specificity::Product,
            Self::Vendor { .. } => Specificity::Vendor,
            Self::Clsid { .. } => Specificity::Clsid,
            Self::FolderPath { .. } => Specificity::FolderPath,
        }
    }
}

/// How narrow a match is, from the widest to the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Specificity {
    /// No rule of the list: an allowlist matched.
    AllAllowed,
    /// By folder.
    FolderPath,
    /// By component.
    Clsid,
    /// By vendor.
    Vendor,
    /// By product.
    Product,
    /// By product and name, unmodified.
    VerifiedExecutable,
    /// By digest.
    FileHash,
}

impl Specificity {
    /// What a rule of this kind goes by, as the end of "a rule by …"; nothing where it is no rule.
    pub fn rule(self) -> Option<&'static str> {
        match self {
            Self::AllAllowed => None,
            Self::FolderPath => Some("folder"),
            Self::Clsid => Some("component"),
            Self::Vendor => Some("vendor"),
            Self::Product => Some("product"),
            Self::VerifiedExecutable => Some("verified executable"),
            Self::FileHash => Some("SHA-256"),
        }
    }

    /// How a list has an application by such a match, as the end of "the list has it …".
    pub fn how(self) -> &'static str {
        match self {
            Self::AllAllowed => "among all allowed applications",
            Self::FolderPath => "by its folder",
            Self::Clsid => "by its component",
            Self::Vendor => "by its vendor",
            Self::Product => "by its product",
            Self::VerifiedExecutable => "as a verified executable",
            Self::FileHash => "by its SHA-256",
        }
    }
}

/// Which arguments (without the program's own name) a rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ArgumentPattern {
    /// Any.
    #[default]
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Any,
    /// These, no more and no fewer.
    Exact {
        /// In order.
        arguments: Vec<OsText>,
    },
    /// These first, then any.
    Prefix {
        /// In order.
        arguments: Vec<OsText>,
    },
    /// One for each of these, no more and no fewer.
    Patterns {
        /// In order.
        arguments: Vec<Pattern>,
    },
}

impl ArgumentPattern {
    /// Whether it covers these arguments; `argv` starts with the program's own name.
    pub fn covers(&self, argv: &[OsText]) -> bool {
        let given = argv.get(1..).unwrap_or_default();
        match self {
            Self::Any => true,
            Self::Exact { arguments } => given == arguments.as_slice(),
            Self::Prefix { arguments } => given.starts_with(arguments),
            Self::Patterns { arguments } => {
                let mut pairs = arguments.iter().zip(given);
                arguments.len() == given.len() && pairs.all(|(pattern, given)| pattern.matches(given))
            }
        }
    }
}

/// A rule as it arrived: one this version can read, or one it cannot. The unreadable one is kept as it came, so that it
/// can be reported, and matches nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "nearly every rule is readable; a box each would cost more")]
pub enum Listed {
    /// Readable.
    Rule(Rule),
    /// Of a newer kind, or broken.
    Unreadable(Value),
}

/// By way of a value, not straight from the text: a rule that is unreadable only because a key stands in it twice must not
/// become readable by being stored and read again.
impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Rule::deserialize(&value).map_or_else(|_| Self::Unreadable(value), Self::Rule))
    }
}

/// Whether a rule recognises an application, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[must_use]
pub enum Finding {
    /// It does.
    Matches,
    /// It is about something else.
    Differs,
    /// It nearly does.
    Nearly {
        /// What keeps it from matching.
        missing: Missing,
    },
    /// It cannot be evaluated here, and so matches nothing.
    CannotEvaluate {
        /// What would be needed.
        needs: Needs,
    },
}

/// What keeps a rule from matching that otherwise would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "missing", rename_all = "snake_case")]
pub enum Missing {
    /// The path can be changed by somebody else than root.
    TrustedPath {
        /// Where and why.
        lane: Lane,
    },
    /// The file lies in a folder below, and the rule leaves those out.
    SubFolders,
    /// The same name with other bytes.
    OtherBytes,
    /// Other arguments.
    Arguments,
    /// The list is for allowed applications, and no allowlist has this one.
    NotAllowed,
    /// The same name, but no package owns the file.
    Package,
    /// The same product by another vendor.
    OtherVendor {
        /// Who made it, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vendor: Option<Text>,
    },
    /// No signature stands behind the vendor's name.
    VerifiedVendor,
    /// The file is not the one that its package recorded.
    Unmodified,
    /// No signature holds that is over this file of Windows.
    Signature,
    /// Older than the rule wants it, or of no version that could be compared.
    Version {
        /// What it is, where a package owns it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<Text>,
        /// What the rule wants at least.
        minimum: Text,
    },
}

/// What a computer has that rules may rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluates {
    /// A package database of a kind that Elevon reads.
    pub packages: bool,
    /// polkit.
    pub components: bool,
}

/// What would be needed to evaluate a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// A package database of a kind that Elevon reads, which this computer does not have.
    PackageFacts,
    /// polkit, whose actions components are, and which this computer does not have.
    Components,
    /// A newer version: it does not know this rule.
    NewerVersion,
    /// An absolute path: its folder is written as something else.
    AbsolutePath,
}

impl Needs {
    /// As the end of the sentence "this rule matches nothing: …".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::PackageFacts => "this computer has no package database that Elevon reads",
            Self::Components => "this computer has no polkit, whose actions components are",
            Self::NewerVersion => "this version does not know this kind of rule",
            Self::AbsolutePath => "its folder is not an absolute path",
        }
    }
}

impl Listed {
    /// Whether it recognises the application with these arguments; `argv` starts with the program's own name.
    pub fn recognise(&self, application: &Application, argv: &[OsText]) -> Finding {
        match self {
            Self::Rule(rule) => rule.recognise(application, argv),
            Self::Unreadable(_) => Finding::CannotEvaluate { needs: Needs::NewerVersion },
        }
    }

    /// Why it matches nothing on a computer that has only this, whatever the application.
    pub fn not_evaluated(&self, computer: Evaluates) -> Option<Needs> {
        match self {
            Self::Rule(rule) => rule.not_evaluated(computer),
            Self::Unreadable(_) => Some(Needs::NewerVersion),
        }
    }
}

impl Rule {
    /// One that says no more than what it recognises: with any arguments and in any version, the way and on the terms of its
    /// list.
    pub fn of(id: RuleId, recognises: Recognises) -> Self {
        Self {
            id,
            recognises,
            arguments: ArgumentPattern::default(),
            minimum_version: None,
            outcome: Outcome::default(),
            elevate: None,
            terms: None,
        }
    }

    /// Whether it recognises the application with these arguments; `argv` starts with the program's own name.
    pub fn recognise(&self, application: &Application, argv: &[OsText]) -> Finding {
        if matches!(self.recognises, Recognises::Clsid { .. }) != application.component.is_some() {
            // No component is a program, and no rule about programs is about what merely lies in a program's package.
            return Finding::Differs;
        }
        let packages = application.package_database;
        if let Some(needs) = self.not_evaluated(Evaluates { packages, components: true }) {
            return Finding::CannotEvaluate { needs };
        }
        let finding = self.recognises.recognise(application);
        if finding != Finding::Matches {
            return finding;
        }
        match self.too_old(application.package.as_ref()) {
            Some(missing) => Finding::Nearly { missing },
            None if !self.arguments.covers(argv) => Finding::Nearly { missing: Missing::Arguments },
            None => Finding::Matches,
        }
    }

    /// Why it matches nothing whatever the application, where that is so.
    pub(crate) fn not_evaluated(&self, computer: Evaluates) -> Option<Needs> {
        match &self.recognises {
            Recognises::Clsid { .. } if !computer.components => Some(Needs::Components),
            // Were an empty path taken for the root folder, a slip of the pen would match everything.
            Recognises::FolderPath { path, .. } if !path.as_bytes().starts_with(b"/") => {
                Some(Needs::AbsolutePath)
            }
            _ if computer.packages => None,
            Recognises::Vendor { .. }
            | Recognises::Product { .. }
            | Recognises::VerifiedExecutable { .. } => Some(Needs::PackageFacts),
            Recognises::FileHash { .. } | Recognises::FolderPath { .. } | Recognises::Clsid { .. } => {
                self.minimum_version.as_ref().map(|_| Needs::PackageFacts)
            }
        }
    }

    fn too_old(&self, package: Option<&Package>) -> Option<Missing> {
        let minimum = self.minimum_version.as_ref()?;
        let late_enough = package.is_some_and(|package| {
            version::at_least(package.system, package.version.as_untrusted(), minimum.as_untrusted())
        });
        let found = || package.map(|package| package.version.clone());
        (!late_enough).then(|| Missing::Version { found: found(), minimum: minimum.clone() })
    }
}

impl Recognises {
    fn recognise(&self, application: &Application) -> Finding {
        match self {
            Self::FileHash { sha256, .. } if *sha256 == application.sha256 => Finding::Matches,
            Self::FileHash { display_name, .. }
                if display_name.as_untrusted().as_bytes() == application.name().as_bytes() =>
            {
                Finding::Nearly { missing: Missing::OtherBytes }
            }
            Self::FileHash { .. } => Finding::Differs,
            Self::FolderPath { path, with_subfolders } => in_folder(path, *with_subfolders, application),
            Self::Vendor { vendor, verified } => {
                Packaged { vendor, verified: *verified, product: None, file_name: None }
                    .recognise(application)
            }
            Self::Product { product, vendor } => {
                Packaged { vendor, verified: false, product: Some(product), file_name: None }
                    .recognise(application)
            }
            Self::VerifiedExecutable { product, vendor, file_name } => {
                Packaged { vendor, verified: false, product: Some(product), file_name: Some(file_name) }
                    .recognise(application)
            }
            Self::Clsid { component } => match &application.component {
                Some(asked) if !asked.is_called(component) => Finding::Differs,
                Some(_) if application.lane == Lane::Trusted => Finding::Matches,
                Some(_) => {
                    Finding::Nearly { missing: Missing::TrustedPath { lane: application.lane.clone() } }
                }
                None => Finding::Differs,
            },
        }
    }
}

/// What a rule asks of the package that a file is from.
struct Packaged<'a> {
    vendor: &'a Text,
    verified: bool,
    product: Option<&'a Text>,
    file_name: Option<&'a OsText>,
}

impl Packaged<'_> {
    fn recognise(&self, application: &Application) -> Finding {
        if self.file_name.is_some_and(|name| *name != application.name()) {
            return Finding::Differs;
        }
        let Some(package) = &application.package else {
            return match (self.file_name, &application.lane) {
                (None, _) => Finding::Differs,
                (Some(_), Lane::Trusted) => Finding::Nearly { missing: Missing::Package },
                (Some(_), lane) => Finding::Nearly { missing: Missing::TrustedPath { lane: lane.clone() } },
            };
        };
        if self.product.is_some_and(|product| *product != package.product) {
            return Finding::Differs;
        }
        let vendor = package.vendor.as_ref();
        if vendor.is_none_or(|vendor| vendor.name != *self.vendor) {
            let vendor = vendor.map(|vendor| vendor.name.clone());
            return match self.product {
                Some(_) => Finding::Nearly { missing: Missing::OtherVendor { vendor } },
                None => Finding::Differs,
            };
        }
        let missing = if application.lane != Lane::Trusted {
            Missing::TrustedPath { lane: application.lane.clone() }
        } else if !package.unmodified {
            match package.system {
                PackageSystem::Dpkg | PackageSystem::Rpm => Missing::Unmodified,
                PackageSystem::Windows => Missing::Signature,
            }
        } else if self.verified && !vendor.is_some_and(|vendor| vendor.verified) {
            Missing::VerifiedVendor
        } else {
            return Finding::Matches;
        };
        Finding::Nearly { missing }
    }
}

fn in_folder(folder: &OsText, with_subfolders: bool, application: &Application) -> Finding {
    let folder = folder.as_bytes();
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    let below = application.path.as_bytes().strip_prefix(folder).and_then(|rest| rest.strip_prefix(b"/"));
    let Some(below) = below.filter(|below| !below.is_empty()) else {
        return Finding::Differs;
    };
    if !with_subfolders && below.contains(&b'/') {
        return Finding::Nearly { missing: Missing::SubFolders };
    }
    match &application.lane {
        Lane::Trusted => Finding::Matches,
        lane @ Lane::Untrusted { .. } => {
            Finding::Nearly { missing: Missing::TrustedPath { lane: lane.clone() } }
        }
    }
}
