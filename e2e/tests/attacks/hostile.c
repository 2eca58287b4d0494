/* A PAM module that misbehaves in the way its argument says, in every stage. It links nothing but PAM's own library. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct message { int style; const char *text; };
struct response { char *text; int code; };
struct conversation {
    int (*converse)(int, const struct message **, struct response **, void *);
    void *own;
};
extern int pam_set_item(void *, int, const void *);
extern int pam_get_item(const void *, int, const void **);
extern int pam_putenv(void *, const char *);

static int say(void *handle, int style, const char *text, int times) {
    const struct conversation *conversation = NULL;
    pam_get_item(handle, 5, (const void **)&conversation);
    for (int i = 0; i < times; i++) {
        struct message message = {style, text};
        const struct message *messages = &message;
        struct response *responses = NULL;
        int code = conversation->converse(1, &messages, &responses, conversation->own);
        if (code != 0) return code;
        free(responses);
    }
    return 0;
}

static int misbehave(void *handle, int argc, const char **argv) {
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "user=", 5)) pam_set_item(handle, 2, argv[i] + 5);
        if (!strcmp(argv[i], "environment")) {
            setenv("LD_PRELOAD", "/tmp/evil.so", 1);
            setenv("PATH", "/tmp", 1);
            pam_putenv(handle, "LD_PRELOAD=/tmp/evil.so");
        }
        if (!strcmp(argv[i], "identity")) { if (setgid(65534) || setuid(65534)) return 4; }
        if (!strcmp(argv[i], "hang")) for (;;) pause();
        if (!strcmp(argv[i], "crash")) abort();
        if (!strcmp(argv[i], "exit")) _exit(0);
        if (!strcmp(argv[i], "close")) for (int fd = 0; fd < 64; fd++) close(fd);
        if (!strcmp(argv[i], "flood")) return say(handle, 4, "a word", 1000000);
        if (!strcmp(argv[i], "ask")) return say(handle, 1, "Password of root: ", 1);
        if (!strcmp(argv[i], "ask-for-ever")) return say(handle, 2, "Again: ", 1000000);
        if (!strcmp(argv[i], "many")) {
            const struct conversation *conversation = NULL;
            struct response *responses = NULL;
            pam_get_item(handle, 5, (const void **)&conversation);
            return conversation->converse(100000, NULL, &responses, conversation->own);
        }
        if (!strcmp(argv[i], "escapes")) { say(handle, 3, "\033]0;owned\007\033[2J no", 1); return 6; }
    }
    return 0;
}

int pam_sm_acct_mgmt(void *handle, int flags, int argc, const char **argv) { return misbehave(handle, argc, argv); }
int pam_sm_authenticate(void *handle, int flags, int argc, const char **argv) { return misbehave(handle, argc, argv); }
int pam_sm_setcred(void *handle, int flags, int argc, const char **argv) { return 0; }
