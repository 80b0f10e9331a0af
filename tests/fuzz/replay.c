/* A target without libFuzzer: gives it each file of the arguments, or of their directories.
 *
 *   fuzz_<name> FILE|DIRECTORY ...    prints the number of inputs; an input that a target does not
 *                                     survive is the last one named on standard error */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { INPUT_BYTES_MAX = 1 << 26 };

static bool replay_file(const char *path)
{
    ps_text text = {0};
    if (ps_file_read(path, INPUT_BYTES_MAX, &text)) {
        fprintf(stderr, "%s\n", ps_err_message());
        return false;
    }
    fprintf(stderr, "%s\n", path);
    // The exact size, so that a sanitizer sees what is read behind the end.
    char *exact = malloc(text.len > 0 ? text.len : 1);
    fuzz_require(exact != NULL);
    memcpy(exact, ps_text_str(&text), text.len);
    LLVMFuzzerTestOneInput((const uint8_t *)exact, text.len);
    free(exact);
    ps_text_release(&text);
    return true;
}

static int replay_directory(const char *path)
{
    struct dirent **names;
    const int n = scandir(path, &names, NULL, alphasort);
    int done = 0;
    for (int i = 0; i < n; i++) {
        ps_text file = {0};
        ps_text_appendf(&file, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.') done += replay_file(ps_text_str(&file));
        ps_text_release(&file);
        free(names[i]);
    }
    if (n >= 0) free(names);
    return done;
}

int main(int argc, char **argv)
{
    int done = 0;
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        struct stat status;
        const bool is_directory = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);
        done += is_directory ? replay_directory(argv[i]) : replay_file(argv[i]);
    }
    printf("%d inputs\n", done);
    return done > 0 ? 0 : 1;
}
