/* What truth_server.c writes: every event with the same bytes, or with what varies in real streams.
 *
 * With `vary` the texts are a fixed list, drawn once from one seed. Most are a word of 1 to 11 letters, as a tokenizer
 * cuts them; one in ten is punctuation, one in twenty holds a JSON escape (line ends, quotes), one in fifty is not ASCII.
 * No text follows itself. Padding is what OpenAI calls obfuscation: random letters and digits, as many as bring text and
 * padding together to the next multiple of eight.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ID_SIZE = 32, TEXTS = 2048, WORD_SIZE = 32 };

/* Bytes that are written as they are, but for the answer's id. */
struct piece {
    char *data;
    size_t size, id_at; /* 0: without an id of its own */
};

/* How one path's answers are written: whole chunks of the message. `first` comes before the first text. */
struct voice {
    struct piece first, *texts;
    const char *finish;
};

static struct voice chat, plain;
static enum { SAME, TEXT, PADDED } vary;
static size_t texts = 1;

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static const char *const signs[] = {",", ".", ":", ";", " (", ")", "**", " -", "?", "!"};
static const char *const escaped[] = {"\\n", "\\n\\n", ":\\n\\n", ".\\n", " \\\"", "\\\"", ",\\\"", "\\t", "\\n   "};
static const char *const foreign[] = {"\u2019s", " \u2014", " na\u00efve", "\u00e9", " f\u00fcr", "\u6771\u4eac", " \u03bb", "\U0001F642"};
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

#define ANY_OF(list) list[drawn(sizeof list / sizeof *list)]

static uint64_t drawn(uint64_t below) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

/* The next text, as it stands between the quotes of JSON. */
static void next_word(char *out) {
    static char before[WORD_SIZE];
    do {
        uint64_t kind = drawn(100);
        if (kind < 5) strcpy(out, ANY_OF(escaped));
        else if (kind < 7) strcpy(out, ANY_OF(foreign));
        else if (kind < 17) strcpy(out, ANY_OF(signs));
        else {
            char *at = out;
            if (kind < 85) *at++ = ' ';
            for (uint64_t left = 1 + drawn(5) + drawn(7); left; left--) *at++ = alphabet[drawn(26)];
            *at = 0;
        }
    } while (!strcmp(out, before));
    strcpy(before, out);
}

/* The padding for a text. */
static void next_padding(char *out, const char *word) {
    size_t size = 8 - strlen(word) % 8;
    for (size_t i = 0; i < size; i++) out[i] = alphabet[drawn(sizeof alphabet - 1)];
    out[size] = 0;
}

#define CHUNK(kind, choice, finish) \
    "data: {\"id\":\"" kind "-1\",\"object\":\"" kind "\",\"created\":1,\"model\":\"sim\",\"choices\":[{\"index\":0," \
    choice ",\"finish_reason\":" finish "}]}\n\n"
#define CHAT(delta, finish) CHUNK("chat.completion.chunk", "\"delta\":" delta, finish)
#define PLAIN(text, finish) CHUNK("text_completion", "\"text\":" text, finish)
#define USAGE \
    "data: {\"id\":\"%s-1\",\"object\":\"%s\",\"created\":1,\"model\":\"sim\",\"choices\":[],\"usage\":{" \
    "\"prompt_tokens\":10,\"completion_tokens\":%u,\"total_tokens\":%u}}\n\ndata: [DONE]\n\n"
#define HEADERS \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n"

/* The bytes of a chunk: its size in hex, then the text. */
static size_t chunk(char *out, const char *text) {
    return (size_t)sprintf(out, "%zx\r\n%s\r\n", strlen(text), text);
}

/* A piece of what stands before it (headers), and the chunk of a text in which PLACE is where the id goes. */
#define PLACE "00000000000000000000000000000000"
static struct piece piece(const char *before, const char *text) {
    struct piece made = {.data = malloc(strlen(before) + strlen(text) + 16)};
    check(made.data != NULL, "memory");
    strcpy(made.data, before);
    made.size = strlen(before);
    made.size += chunk(made.data + made.size, text);
    char *place = strstr(made.data, PLACE);
    made.id_at = place ? (size_t)(place - made.data) : 0;
    return made;
}

/* Another event of the list: the text differs, and with PADDED its padding. */
static struct piece text_of(int is_chat) {
    char word[WORD_SIZE], padding[WORD_SIZE], delta[2 * WORD_SIZE], out[1024];
    next_word(word);
    next_padding(padding, word);
    snprintf(delta, sizeof delta, is_chat ? "\"delta\":{\"content\":\"%s\"}" : "\"text\":\"%s\"", word);
    const char *kind = is_chat ? "chat.completion.chunk" : "text_completion";
    if (vary == TEXT) {
        snprintf(out, sizeof out,
                 "data: {\"id\":\"chatcmpl-" PLACE "\",\"object\":\"%s\",\"created\":1769092764,\"model\":\"sim\","
                 "\"choices\":[{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n",
                 kind, delta);
    } else {
        snprintf(out, sizeof out,
                 "data: {\"id\":\"chatcmpl-" PLACE "\",\"object\":\"%s\",\"created\":1769092764,\"model\":\"sim\","
                 "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_29330a9688\",\"choices\":[{\"index\":0,%s,"
                 "\"logprobs\":null,\"finish_reason\":null}],\"obfuscation\":\"%s\"}\n\n",
                 kind, delta, padding);
    }
    return piece("", out);
}

/* `closing`: the headers say that the connection ends with the answer. */
static void give_voices(int closing) {
    const char *end = closing ? "connection: close\r\n\r\n" : "\r\n";
    char headers[512];
    snprintf(headers, sizeof headers, HEADERS "%s", end);
    if (vary) texts = TEXTS;
    check((chat.texts = calloc(2 * texts, sizeof *chat.texts)) != NULL, "memory");
    plain.texts = chat.texts + texts;
    chat.first = piece(headers, CHAT("{\"role\":\"assistant\",\"content\":\"\"}", "null"));
    plain.first = (struct piece){.data = strdup(headers), .size = strlen(headers)};
    for (size_t i = 0; i < texts; i++)
        chat.texts[i] = vary ? text_of(1) : piece("", CHAT("{\"content\":\" word\"}", "null"));
    for (size_t i = 0; i < texts; i++) plain.texts[i] = vary ? text_of(0) : piece("", PLAIN("\" word\"", "null"));
    chat.finish = CHAT("{}", "\"stop\"") USAGE;
    plain.finish = PLAIN("\"\"", "\"stop\"") USAGE;
}
