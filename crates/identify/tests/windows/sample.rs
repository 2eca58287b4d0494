//! A program small enough to read, certificates of a made-up authority, and `osslsigncode`, which signs as vendors do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// An unsigned 64-bit program whose version resource says what it is.
pub(super) fn program() -> Vec<u8> {
    let resources = resources();
    let mut file = vec![0; 0x400];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    let mut head = b"PE\0\0".to_vec();
    for word in [0x8664_u16, 1, 0, 0, 0, 0, 0, 0, 240, 0x22] {
        head.extend(word.to_le_bytes());
    }
    let mut optional = vec![0; 240];
    let mut put = |at: usize, value: u32| optional[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0, 0x020b);
    put(32, 0x1000);
    put(36, 0x200);
    put(56, 0x1000 + aligned(resources.len(), 0x1000) as u32);
    put(60, 0x400);
    put(68, 3);
    put(108, 16);
    put(112 + 16, 0x1000);
    put(112 + 20, resources.len() as u32);
    head.extend(optional);
    head.extend(b".rsrc\0\0\0");
    let raw = aligned(resources.len(), 0x200);
    for word in [resources.len() as u32, 0x1000, raw as u32, 0x400, 0, 0, 0, 0x4000_0040] {
        head.extend(word.to_le_bytes());
    }
    file[0x40..0x40 + head.len()].copy_from_slice(&head);
    file.extend(resources);
    file.resize(0x400 + raw, 0);
    file
}

fn aligned(length: usize, to: usize) -> usize {
    length.next_multiple_of(to)
}

/// A tree of three folders of one entry each, and the version.
fn resources() -> Vec<u8> {
    let folder = |number: u32, to: u32| {
        let mut folder = vec![0; 14];
        folder.extend(1_u16.to_le_bytes());
        folder.extend(number.to_le_bytes());
        folder.extend(to.to_le_bytes());
        folder
    };
    let version = version();
    let mut all = folder(16, 0x8000_0018);
    all.extend(folder(1, 0x8000_0030));
    all.extend(folder(0x409, 0x48));
    for word in [0x1000 + 0x58, version.len() as u32, 0, 0] {
        all.extend(word.to_le_bytes());
    }
    all.extend(version);
    all
}

fn version() -> Vec<u8> {
    let mut fixed = Vec::new();
    for word in [0xfeef_04bd_u32, 0x1_0000, 2 << 16 | 1, 4 << 16 | 3] {
        fixed.extend(word.to_le_bytes());
    }
    fixed.resize(52, 0);
    let string = |name: &str, value: &str| {
        let value: Vec<u8> = value.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        block(name, 1, &value, &[])
    };
    let strings = [
        string("CompanyName", "Example Tools Inc."),
        string("ProductName", "Example Tool"),
        string("OriginalFilename", "tool.exe"),
    ];
    let table = block("040904b0", 1, &[], &strings);
    let files = block("StringFileInfo", 1, &[], &[table]);
    block("VS_VERSION_INFO", 0, &fixed, &[files])
}

fn block(name: &str, text: u16, value: &[u8], inside: &[Vec<u8>]) -> Vec<u8> {
    let units = if text == 1 { value.len() / 2 } else { value.len() };
    let mut block = vec![0; 2];
    block.extend((units as u16).to_le_bytes());
    block.extend(text.to_le_bytes());
    block.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    block.resize(aligned(block.len(), 4), 0);
    block.extend(value);
    for inner in inside {
        block.resize(aligned(block.len(), 4), 0);
        block.extend(inner);
    }
    let length = (block.len() as u16).to_le_bytes();
    block[..2].copy_from_slice(&length);
    block
}

/// An unsigned package: a summary, a stream, and a storage with a stream in it.
pub(super) fn package() -> Vec<u8> {
    let mut file = cfb::CompoundFile::create(std::io::Cursor::new(Vec::new())).unwrap();
    let mut put = |path: &str, content: &[u8]| {
        std::io::Write::write_all(&mut file.create_stream(path).unwrap(), content).unwrap();
    };
    put("\u{5}SummaryInformation", &summary(&[(3, "Example Tool"), (4, "Example Tools Inc."), (9, "{1-2}")]));
    put("\u{4840}\u{3f3f}", &[7; 10_000]);
    put("\u{4840}", b"short");
    put("empty", b"");
    file.create_storage("inner").unwrap();
    let mut inner = file.create_stream("inner/data").unwrap();
    std::io::Write::write_all(&mut inner, b"in the storage").unwrap();
    drop(inner);
    file.flush().unwrap();
    file.into_inner().into_inner()
}

fn summary(properties: &[(u32, &str)]) -> Vec<u8> {
    let mut stream = vec![0; 48];
    stream[..2].copy_from_slice(&[0xfe, 0xff]);
    stream[24] = 1;
    stream[44] = 48;
    let (mut table, mut values) = (Vec::new(), Vec::new());
    let begin = 8 + 8 * properties.len();
    for (number, text) in properties {
        let mut text = text.as_bytes().to_vec();
        text.push(0);
        table.extend(number.to_le_bytes());
        table.extend(((begin + values.len()) as u32).to_le_bytes());
        values.extend(30_u32.to_le_bytes());
        values.extend((text.len() as u32).to_le_bytes());
        text.resize(aligned(text.len(), 4), 0);
        values.extend(text);
    }
    stream.extend(((begin + values.len()) as u32).to_le_bytes());
    stream.extend((properties.len() as u32).to_le_bytes());
    stream.extend(table);
    stream.extend(values);
    stream
}

/// An authority, and what it can issue.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// In DER.
    pub(super) certificate: Vec<u8>,
    pem: String,
}

/// A certificate with its key and those on the way to the authority, as `osslsigncode` takes them.
pub(super) struct Signer {
    pub(super) certificate: Vec<u8>,
    chain: String,
    key: String,
}

/// What a certificate is to be.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) uses: Vec<ExtendedKeyUsagePurpose>,
    pub(super) years: (i32, i32),
    pub(super) is_ca: bool,
}

impl Wanted {
    /// For signing programs, from 2020 to 2040.
    pub(super) fn code_signing(name: &'static str) -> Self {
        Self { name, uses: vec![ExtendedKeyUsagePurpose::CodeSigning], years: (2020, 2040), is_ca: false }
    }

    fn parameters(&self) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, self.name);
        parameters.not_before = date_time_ymd(self.years.0, 1, 1);
        parameters.not_after = date_time_ymd(self.years.1, 1, 1);
        if self.uses == [ExtendedKeyUsagePurpose::TimeStamping] {
            // Critical, as RFC 3161 wants it: 1.3.6.1.5.5.7.3.8 under 2.5.29.37.
            let uses = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x08".to_vec();
            let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], uses);
            extension.set_criticality(true);
            parameters.custom_extensions.push(extension);
        } else {
            parameters.extended_key_usages.clone_from(&self.uses);
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.is_ca {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        }
        parameters
    }
}

impl Authority {
    pub(super) fn new(name: &'static str) -> Self {
        let wanted = Wanted { name, uses: Vec::new(), years: (2000, 2060), is_ca: true };
        let key = KeyPair::generate().unwrap();
        let parameters = wanted.parameters();
        let certificate = parameters.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().to_vec(), certificate.pem());
        Self { issuer: Issuer::new(parameters, key), certificate: der, pem }
    }

    pub(super) fn issue(&self, wanted: &Wanted) -> Signer {
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.parameters().signed_by(&key, &self.issuer).unwrap();
        Signer {
            certificate: certificate.der().to_vec(),
            chain: format!("{}{}", certificate.pem(), self.pem),
            key: key.serialize_pem(),
        }
    }

    /// An authority below this one, or what only claims to be one.
    pub(super) fn below(&self, wanted: &Wanted) -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = wanted.parameters();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let pem = format!("{}{}", certificate.pem(), self.pem);
        let der = certificate.der().to_vec();
        Self { issuer: Issuer::new(parameters, key), certificate: der, pem }
    }
}

/// Signs a program. `stamp` is whose time stamp to add, and for when, in seconds.
pub(super) fn sign(file: &[u8], signer: &Signer, stamp: Option<(&Signer, i64)>, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut command = Command::new("osslsigncode");
    command.arg("sign").args(options);
    let mut with = |option: &str, path: &Path| {
        command.arg(option).arg(path);
    };
    with("-certs", &put("chain.pem", signer.chain.as_bytes()));
    with("-key", &put("key.pem", signer.key.as_bytes()));
    if let Some((by, _)) = stamp {
        with("-TSA-certs", &put("stamp.pem", by.chain.as_bytes()));
        with("-TSA-key", &put("stamp-key.pem", by.key.as_bytes()));
    }
    with("-in", &put("in", file));
    let signed = folder.path().join("out");
    with("-out", &signed);
    if let Some((_, at)) = stamp {
        command.args(["-TSA-time", &at.to_string()]);
    }
    let told = command.output().expect("osslsigncode is installed: `cargo xtask test packages` installs it");
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success(), "{}{errors}", String::from_utf8_lossy(&told.stdout));
    fs::read(signed).unwrap()
}
