//! PAM's own library, loaded when it is needed: the handful of its functions that ask whether an account is good and whose
//! password was typed. Only for the helper's processes; the elevator never calls it. See pam(3) and `security/pam_appl.h`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use zeroize::Zeroizing;

/// Linux-PAM's one name for itself. Others (OpenPAM) hand messages over in another form.
const NAME: &CStr = c"libpam.so.0";

/// More messages than this do not come at once (`PAM_MAX_NUM_MSG`).
const MOST_MESSAGES: usize = 32;

const SUCCESS: c_int = 0;
const BUFFER_ERROR: c_int = 5;
const CONVERSATION_ERROR: c_int = 19;
const USER: c_int = 2;
const CONVERSATION: c_int = 5;
const REMOTE_USER: c_int = 8;

/// What PAM answers where it does not say yes; see `security/_pam_types.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) c_int);

/// How a module wants a message to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// It wants an answer that nobody may see.
    Secret,
    /// It wants an answer that may be seen.
    Open,
    /// It tells of something that went wrong.
    Error,
    /// It tells something.
    Information,
}

/// Answers a module's message, or only hears of it; `None` gives the whole attempt up.
pub(crate) type Answers<'a> = dyn FnMut(Style, &[u8]) -> Option<Zeroizing<Vec<u8>>> + 'a;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

type Converse = extern "C" fn(c_int, *const *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    converse: Converse,
    own: *mut c_void,
}

type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut *mut c_void) -> c_int;
type StartIn = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const Conversation,
    *const c_char,
    *mut *mut c_void,
) -> c_int;
type Act = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type Item = unsafe extern "C" fn(*const c_void, c_int, *mut *const c_void) -> c_int;
type SetItem = unsafe extern "C" fn(*mut c_void, c_int, *const c_void) -> c_int;
type Sentence = unsafe extern "C" fn(*mut c_void, c_int) -> *const c_char;

/// The library.
#[derive(Debug)]
pub(crate) struct Library {
    start: Start,
    start_in: Option<StartIn>,
    account: Act,
    authenticate: Act,
    end: Act,
    item: Item,
    set_item: SetItem,
    sentence: Sentence,
    place: Option<PathBuf>,
}

impl Library {
    /// Loads it, for good, and for modules that do not say that they need it, too.
    pub(crate) fn load() -> Result<Self, String> {
        // SAFETY: the name ends with NUL; the library's constructors are trusted as the system's own.
        let handle =
            unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL | libc::RTLD_NODELETE) };
        if handle.is_null() {
            return Err(format!("could not load {}: {}", NAME.to_string_lossy(), loading_error()));
        }
        // SAFETY: each name is one of Linux-PAM's functions, and each type is what its header declares for it.
        unsafe {
            Ok(Self {
                start: std::mem::transmute::<*mut c_void, Start>(symbol(handle, c"pam_start")?),
                start_in: symbol(handle, c"pam_start_confdir")
                    .ok()
                    .map(|found| std::mem::transmute::<*mut c_void, StartIn>(found)),
                account: std::mem::transmute::<*mut c_void, Act>(symbol(handle, c"pam_acct_mgmt")?),
                authenticate: std::mem::transmute::<*mut c_void, Act>(symbol(handle, c"pam_authenticate")?),
                end: std::mem::transmute::<*mut c_void, Act>(symbol(handle, c"pam_end")?),
                item: std::mem::transmute::<*mut c_void, Item>(symbol(handle, c"pam_get_item")?),
                set_item: std::mem::transmute::<*mut c_void, SetItem>(symbol(handle, c"pam_set_item")?),
                sentence: std::mem::transmute::<*mut c_void, Sentence>(symbol(handle, c"pam_strerror")?),
                place: place_of(symbol(handle, c"pam_start")?),
            })
        }
    }

    /// The file it was loaded from, where that can be told.
    pub(crate) fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }
}

/// Loads a module, for good, so that PAM finds it loaded. One that cannot be loaded is PAM's to complain of.
pub(crate) fn keep_loaded(module: &Path) {
    if let Ok(path) = CString::new(module.as_os_str().as_bytes()) {
        // SAFETY: the path ends with NUL; PAM would load the same file in the same way.
        unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NODELETE) };
    }
}

/// Leaves nothing of the environment but a PATH. For processes with a single thread.
pub(crate) fn clear_environment() {
    // SAFETY: there is no other thread that could read it, and both strings end with NUL.
    unsafe {
        libc::clearenv();
        libc::setenv(c"PATH".as_ptr(), c"/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), 1);
    }
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the handle is of a library that stays loaded, the name ends with NUL.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    match found.is_null() {
        true => Err(format!("{} has no {}", NAME.to_string_lossy(), name.to_string_lossy())),
        false => Ok(found),
    }
}

fn place_of(function: *const c_void) -> Option<PathBuf> {
    // SAFETY: all-zero is valid for a structure of pointers; the call fills it, and the name it gives lives as long as the
    // library.
    unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(function, &raw mut found) == 0 || found.dli_fname.is_null() {
            return None;
        }
        let name = CStr::from_ptr(found.dli_fname);
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
    }
}

fn loading_error() -> String {
    // SAFETY: the text it gives is valid until the next call, and copied at once.
    unsafe {
        let error = libc::dlerror();
        if error.is_null() { "unknown".into() } else { CStr::from_ptr(error).to_string_lossy().into_owned() }
    }
}

/// An attempt with a service, about nobody yet: PAM has read the service, and no module has run. One that comes to nothing goes
/// with its process, without an end of its own, which PAM would take for an attempt to log in as nobody.
pub(crate) struct Begun<'a> {
    library: &'a Library,
    handle: *mut c_void,
}

impl<'a> Begun<'a> {
    /// Begins one. With a folder, services are looked for there and nowhere else.
    pub(crate) fn new(library: &'a Library, service: &CStr, folder: Option<&CStr>) -> Result<Self, String> {
        let nobody = Conversation { converse, own: ptr::null_mut() };
        let mut handle = ptr::null_mut();
        // SAFETY: the strings end with NUL, and no user is one that is set later; PAM copies them and the structure.
        let code = unsafe {
            match (folder, library.start_in) {
                (None, _) => {
                    (library.start)(service.as_ptr(), ptr::null(), &raw const nobody, &raw mut handle)
                }
                (Some(folder), Some(start)) => {
                    start(service.as_ptr(), ptr::null(), &raw const nobody, folder.as_ptr(), &raw mut handle)
                }
                (Some(_), None) => {
                    return Err("this PAM is older than 1.4 and takes no other folder than its own".into());
                }
            }
        };
        if code != SUCCESS || handle.is_null() {
            return Err(format!("PAM could not begin: error {code}"));
        }
        Ok(Self { library, handle })
    }

    /// Whom it is about, and who answers what modules ask.
    pub(crate) fn about<'b>(self, user: &CStr, answers: Box<Answers<'b>>) -> Result<Attempt<'b>, String>
    where
        'a: 'b,
    {
        let Self { library, handle } = self;
        let answers = Box::into_raw(Box::new(answers));
        let attempt = Attempt { library, handle, last: SUCCESS, answers };
        let conversation = Conversation { converse, own: answers.cast() };
        let set = |item, to| {
            // SAFETY: the handle is live. PAM copies the string, and the structure, whose pointer stays good for as long as the
            // attempt.
            let code = unsafe { (library.set_item)(handle, item, to) };
            if code == SUCCESS { Ok(()) } else { Err(format!("PAM could not begin: error {code}")) }
        };
        set(CONVERSATION, (&raw const conversation).cast())?;
        set(USER, user.as_ptr().cast())?;
        // Who asks, as modules know it. That it cannot be set would only be missed in a log.
        let _ = set(REMOTE_USER, user.as_ptr().cast());
        Ok(attempt)
    }
}

/// One attempt: a user and a service.
pub(crate) struct Attempt<'a> {
    library: &'a Library,
    handle: *mut c_void,
    last: c_int,
    /// Where `converse` finds who answers: PAM holds the address. From a box, which is taken back at the end.
    answers: *mut Box<Answers<'a>>,
}

impl Attempt<'_> {
    /// Whether the account may be used now.
    pub(crate) fn account(&mut self) -> Result<(), Code> {
        // SAFETY: the handle is live.
        self.last = unsafe { (self.library.account)(self.handle, 0) };
        self.told()
    }

    /// Whether it is really this user who answers.
    pub(crate) fn authenticate(&mut self) -> Result<(), Code> {
        // SAFETY: the handle is live.
        self.last = unsafe { (self.library.authenticate)(self.handle, 0) };
        self.told()
    }

    /// Whom it is about by now: a module may have changed it.
    pub(crate) fn user(&self) -> Option<Vec<u8>> {
        let mut found = ptr::null();
        // SAFETY: the handle is live; a name that PAM gives ends with NUL, and is copied at once.
        unsafe {
            if (self.library.item)(self.handle, USER, &raw mut found) != SUCCESS || found.is_null() {
                return None;
            }
            Some(CStr::from_ptr(found.cast()).to_bytes().to_vec())
        }
    }

    /// PAM's own words for a code.
    pub(crate) fn sentence(&self, code: Code) -> String {
        // SAFETY: the handle is live; the text is PAM's own constant, and copied at once.
        unsafe {
            let text = (self.library.sentence)(self.handle, code.0);
            if text.is_null() {
                return format!("error {}", code.0);
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }

    fn told(&self) -> Result<(), Code> {
        if self.last == SUCCESS { Ok(()) } else { Err(Code(self.last)) }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live and not used again, and after it nobody holds the address of the box any more.
        unsafe {
            (self.library.end)(self.handle, self.last);
            drop(Box::from_raw(self.answers));
        }
    }
}

/// What PAM calls with a module's messages. A panic here ends the process, which is a helper's and answers for one attempt.
extern "C" fn converse(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    own: *mut c_void,
) -> c_int {
    let Some(count) = usize::try_from(count).ok().filter(|count| (1..=MOST_MESSAGES).contains(count)) else {
        return CONVERSATION_ERROR;
    };
    if messages.is_null() || responses.is_null() || own.is_null() {
        return CONVERSATION_ERROR;
    }
    // SAFETY: `own` is what `about` gave, which lives as long as the attempt that calls this.
    let answers = unsafe { &mut *own.cast::<Box<Answers<'_>>>() };
    // SAFETY: takes numbers, gives zeroed memory or null. PAM frees it, as its header says.
    let given = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
    if given.is_null() {
        return BUFFER_ERROR;
    }
    for at in 0..count {
        // SAFETY: `messages` has `count` pointers (on Linux-PAM an array of pointers), `given` has `count` entries.
        let answered = unsafe { answer(&mut **answers, *messages.add(at), &mut *given.add(at)) };
        if !answered {
            // SAFETY: `given` has `count` entries, each null or from `malloc`.
            unsafe { give_up(given, count) };
            return CONVERSATION_ERROR;
        }
    }
    // SAFETY: PAM gave a place for one pointer.
    unsafe { *responses = given };
    SUCCESS
}

/// Puts one answer where PAM expects it; whether there is one.
///
/// # Safety
/// The message is null or as PAM has it, with a text that is null or ends with NUL.
unsafe fn answer(answers: &mut Answers<'_>, message: *const Message, response: &mut Response) -> bool {
    // SAFETY: as the caller promises.
    let Some(message) = (unsafe { message.as_ref() }) else { return false };
    let style = match message.style {
        1 => Style::Secret,
        2 => Style::Open,
        3 => Style::Error,
        4 => Style::Information,
        _ => return false,
    };
    // SAFETY: as the caller promises.
    let text = if message.text.is_null() { &[] } else { unsafe { CStr::from_ptr(message.text) }.to_bytes() };
    let Some(answered) = answers(style, text) else { return false };
    if matches!(style, Style::Secret | Style::Open) {
        // An answer with a NUL in it would be another one where PAM reads it.
        if answered.contains(&0) {
            return false;
        }
        // SAFETY: room for the answer and its NUL, which `calloc` has put there.
        let copy = unsafe { libc::calloc(answered.len() + 1, 1) }.cast::<u8>();
        if copy.is_null() {
            return false;
        }
        // SAFETY: both are that long, and do not overlap.
        unsafe { ptr::copy_nonoverlapping(answered.as_ptr(), copy, answered.len()) };
        response.text = copy.cast();
    }
    true
}

/// Wipes and frees what was to be answered.
///
/// # Safety
/// `given` has `count` entries, each with a text that is null or from `calloc` and ends with NUL.
unsafe fn give_up(given: *mut Response, count: usize) {
    for at in 0..count {
        // SAFETY: as the caller promises.
        unsafe {
            let text = (*given.add(at)).text;
            if !text.is_null() {
                libc::explicit_bzero(text.cast(), libc::strlen(text));
                libc::free(text.cast());
            }
        }
    }
    // SAFETY: it is from `calloc`, and not used again.
    unsafe { libc::free(given.cast()) };
}
