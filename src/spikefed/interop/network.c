//@ head
/* @TITLE@.
 *
 * C99 without dependencies: cc -std=c99 -O2 -DNETWORK_MAIN FILE.c -o network
 *   ./network < images     a class number a line, for images one after the other: @INPUTS@ values each, @VALUES@
 *   ./network scores < images     and the mean output of every class
 *   ./network size     bytes of constants (flash) and of static memory (RAM)
 *   ./network operations < images     multiply-adds that each image took (compiled with -DNETWORK_COUNT)
 * In a program of your own: network_predict(image, scores) gives the class number; it is not re-entrant.
 *
 * Event-driven: a weight is read only where its input is not 0. Maps are stored [row][column][channel].
 * Weights, whether they stand in rows with all zeros or as lists of those that are left, and multiply-adds of a time
 * step with every input active, through the weights that are left, of those through all:
@LAYERS@
 */

#include <stdint.h>
#include <string.h>

#define NETWORK_STEPS @STEPS@
#define NETWORK_INPUTS @INPUTS@
#define NETWORK_CLASSES @CLASSES@
#define NETWORK_FLASH_BYTES @FLASH@L
#define NETWORK_RAM_BYTES @RAM@L

typedef @INPUT_TYPE@ network_input;
typedef @WEIGHT_TYPE@ network_weight;

#ifdef NETWORK_COUNT
static unsigned long long network_operations;
#define NETWORK_ADDS(count) (network_operations += (unsigned long long)(count))
#else
#define NETWORK_ADDS(count) ((void)0)
#endif

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

//@ events
#define NETWORK_CHUNK 64

/* Where x is not 0, found without a branch that a processor could guess wrong. */
static int events(const float *x, unsigned char *at, int count) {
    int found = 0;
    for (int i = 0; i < count; ++i) {
        at[found] = (unsigned char)i;
        found += x[i] != 0.0f;
    }
    return found;
}

//@ add_row
static void add_row(float *restrict y, const network_weight *restrict w, float value, int count) {
    NETWORK_ADDS(count);
    for (int i = 0; i < count; ++i) y[i] += value * w[i];
}

//@ add_list
/* The weights that are left of a row, each to its place. */
static void add_list_@PLACE@(float *restrict y, long base, const uint@PLACE@_t *restrict at,
                      const network_weight *restrict w, float value, long count) {
    NETWORK_ADDS(count);
    for (long i = 0; i < count; ++i) y[base + at[i]] += value * w[i];
}

//@ conv
/* What the values that are not 0 add to a map; padding kernel / 2. Weights are [row][input][column, last first][output],
 * so that with stride 1 a value adds one run of them to neighbouring pixels. */
static void conv(const float *x, float *y, const network_weight *w, int height, int width, int in, int rows,
                 int columns, int out, int kernel, int stride) {
    const int pad = kernel / 2;
    memset(y, 0, sizeof(float) * (size_t)rows * (size_t)columns * (size_t)out);
    for (int i = 0; i < height; ++i)
        for (int j = 0; j < width; ++j) {
            const int first = j < pad ? pad - j : 0, room = columns * stride - j + pad;
            const int last = kernel < room ? kernel : room;
            for (int c = 0; c < in; c += NETWORK_CHUNK) {
                unsigned char at[NETWORK_CHUNK];
                const int size = in - c < NETWORK_CHUNK ? in - c : NETWORK_CHUNK, found = events(x, at, size);
                for (int a = 0; a < kernel; ++a) {
                    const int top = i + pad - a;
                    float *to;
                    if (top < 0 || top % stride || top / stride >= rows) continue;
                    to = y + (long)(top / stride) * columns * out;
                    for (int e = 0; e < found; ++e) {
                        const network_weight *from = w + ((long)(a * in + c + at[e]) * kernel + first) * out;
                        if (stride == 1)
                            add_row(to + (long)(j - pad + first) * out, from, x[at[e]], (last - first) * out);
                        else
                            for (int b = first; b < last; ++b, from += out)
                                if ((j - pad + b) % stride == 0)
                                    add_row(to + (long)((j - pad + b) / stride) * out, from, x[at[e]], out);
                    }
                }
                x += size;
            }
        }
}

//@ conv_lists
/* The same with lists of the weights that are left: of each row and input, where stride is 1; else of each row, input
 * and column, as columns are left out. */
static void conv_lists_@PLACE@_@FIRST@(const float *x, float *y, const uint@FIRST@_t *start, const uint@PLACE@_t *place,
                            const network_weight *w, int height, int width, int in, int rows, int columns, int out,
                            int kernel, int stride) {
    const int pad = kernel / 2;
    memset(y, 0, sizeof(float) * (size_t)rows * (size_t)columns * (size_t)out);
    for (int i = 0; i < height; ++i)
        for (int j = 0; j < width; ++j) {
            const int first = j < pad ? pad - j : 0, room = columns * stride - j + pad;
            const int last = kernel < room ? kernel : room;
            for (int c = 0; c < in; c += NETWORK_CHUNK) {
                unsigned char at[NETWORK_CHUNK];
                const int size = in - c < NETWORK_CHUNK ? in - c : NETWORK_CHUNK, found = events(x, at, size);
                for (int a = 0; a < kernel; ++a) {
                    const int top = i + pad - a;
                    if (top < 0 || top % stride || top / stride >= rows) continue;
                    const long to = (long)(top / stride) * columns * out;
                    for (int e = 0; e < found; ++e) {
                        const long list = (long)a * in + c + at[e];
                        if (stride == 1) {
                            long k = (long)start[list], end = (long)start[list + 1];
                            if (first > 0)
                                while (k < end && place[k] < first * out) ++k;
                            if (last < kernel)
                                while (k < end && place[end - 1] >= last * out) --end;
                            add_list_@PLACE@(y, to + (long)(j - pad) * out, place + k, w + k, x[at[e]], end - k);
                        } else
                            for (int b = first; b < last; ++b)
                                if ((j - pad + b) % stride == 0) {
                                    const long k = (long)start[list * kernel + b];
                                    add_list_@PLACE@(y, to + (long)((j - pad + b) / stride) * out, place + k, w + k,
                                                x[at[e]], (long)start[list * kernel + b + 1] - k);
                                }
                    }
                }
                x += size;
            }
        }
}

//@ line
/* The same along rows alone. Weights are [input][column, last first][output]. */
static void line(const float *x, float *y, const network_weight *w, int height, int width, int in, int columns, int out,
                 int kernel, int stride) {
    const int pad = kernel / 2;
    memset(y, 0, sizeof(float) * (size_t)height * (size_t)columns * (size_t)out);
    for (int i = 0; i < height; ++i, y += (long)columns * out)
        for (int j = 0; j < width; ++j) {
            const int first = j < pad ? pad - j : 0, room = columns * stride - j + pad;
            const int last = kernel < room ? kernel : room;
            for (int c = 0; c < in; c += NETWORK_CHUNK) {
                unsigned char at[NETWORK_CHUNK];
                const int size = in - c < NETWORK_CHUNK ? in - c : NETWORK_CHUNK, found = events(x, at, size);
                for (int e = 0; e < found; ++e) {
                    const network_weight *from = w + ((long)(c + at[e]) * kernel + first) * out;
                    for (int b = first; b < last; ++b, from += out)
                        if ((j - pad + b) % stride == 0)
                            add_row(y + (long)((j - pad + b) / stride) * out, from, x[at[e]], out);
                }
                x += size;
            }
        }
}

//@ line_lists
/* The same with lists of the weights that are left, of each input and column. */
static void line_lists_@PLACE@_@FIRST@(const float *x, float *y, const uint@FIRST@_t *start, const uint@PLACE@_t *place,
                            const network_weight *w, int height, int width, int in, int columns, int out, int kernel,
                            int stride) {
    const int pad = kernel / 2;
    memset(y, 0, sizeof(float) * (size_t)height * (size_t)columns * (size_t)out);
    for (int i = 0; i < height; ++i, y += (long)columns * out)
        for (int j = 0; j < width; ++j) {
            const int first = j < pad ? pad - j : 0, room = columns * stride - j + pad;
            const int last = kernel < room ? kernel : room;
            for (int c = 0; c < in; c += NETWORK_CHUNK) {
                unsigned char at[NETWORK_CHUNK];
                const int size = in - c < NETWORK_CHUNK ? in - c : NETWORK_CHUNK, found = events(x, at, size);
                for (int e = 0; e < found; ++e)
                    for (int b = first; b < last; ++b)
                        if ((j - pad + b) % stride == 0) {
                            const long list = (long)(c + at[e]) * kernel + b, k = (long)start[list];
                            add_list_@PLACE@(y, (long)((j - pad + b) / stride) * out, place + k, w + k, x[at[e]],
                                        (long)start[list + 1] - k);
                        }
                x += size;
            }
        }
}

//@ linear
static void linear(const float *x, float *y, const network_weight *w, int in, int out) {
    memset(y, 0, sizeof(float) * (size_t)out);
    for (int i = 0; i < in; i += NETWORK_CHUNK) {
        unsigned char at[NETWORK_CHUNK];
        const int size = in - i < NETWORK_CHUNK ? in - i : NETWORK_CHUNK, found = events(x + i, at, size);
        for (int e = 0; e < found; ++e) add_row(y, w + (long)(i + at[e]) * out, x[i + at[e]], out);
    }
}

//@ linear_lists
/* The same with lists of the weights that are left of each input. */
static void linear_lists_@PLACE@_@FIRST@(const float *x, float *y, const uint@FIRST@_t *start, const uint@PLACE@_t *place,
                              const network_weight *w, int in, int out) {
    memset(y, 0, sizeof(float) * (size_t)out);
    for (int i = 0; i < in; i += NETWORK_CHUNK) {
        unsigned char at[NETWORK_CHUNK];
        const int size = in - i < NETWORK_CHUNK ? in - i : NETWORK_CHUNK, found = events(x + i, at, size);
        for (int e = 0; e < found; ++e) {
            const long k = (long)start[i + at[e]];
            add_list_@PLACE@(y, 0, place + k, w + k, x[i + at[e]], (long)start[i + at[e] + 1] - k);
        }
    }
}

//@ scale
/* y = y * gain + shift, a number for each channel. */
static void scale(float *y, const float *gain, const float *shift, int pixels, int channels) {
    for (int i = 0; i < pixels; ++i, y += channels)
        for (int c = 0; c < channels; ++c) y[c] = y[c] * gain[c] + shift[c];
}

//@ times
static void times(float *y, const float *gain, int pixels, int channels) {
    for (int i = 0; i < pixels; ++i, y += channels)
        for (int c = 0; c < channels; ++c) y[c] *= gain[c];
}

//@ shift
static void shift(float *y, const float *bias, int pixels, int channels) {
    for (int i = 0; i < pixels; ++i, y += channels)
        for (int c = 0; c < channels; ++c) y[c] += bias[c];
}

//@ lif_hard
/* Leaky integrate and fire, currents to spikes; a spike sets the potential to 0. */
static void lif_hard(float *restrict x, float *restrict v, int count, float decay, float gain, float fire) {
    for (int i = 0; i < count; ++i) {
        const float u = decay * v[i] + gain * x[i];
        x[i] = u >= fire ? 1.0f : 0.0f;
        v[i] = u >= fire ? 0.0f : u;
    }
}

//@ lif_soft
/* Leaky integrate and fire, currents to spikes; a spike takes the threshold away. */
static void lif_soft(float *restrict x, float *restrict v, int count, float decay, float gain, float fire,
                     float theta) {
    for (int i = 0; i < count; ++i) {
        const float u = decay * v[i] + gain * x[i];
        x[i] = u >= fire ? 1.0f : 0.0f;
        v[i] = u >= fire ? u - theta : u;
    }
}

//@ rectify
static void rectify(float *y, int count) {
    for (int i = 0; i < count; ++i)
        if (y[i] < 0.0f) y[i] = 0.0f;
}

//@ average
static void average(const float *x, float *y, int height, int width, int channels, int rows, int columns, int size_y,
                    int size_x, int stride, int padding) {
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j, y += channels) {
            memset(y, 0, sizeof(float) * (size_t)channels);
            for (int a = i * stride - padding; a < i * stride - padding + size_y; ++a)
                for (int b = j * stride - padding; b < j * stride - padding + size_x; ++b) {
                    if (a < 0 || a >= height || b < 0 || b >= width) continue;
                    for (int c = 0; c < channels; ++c) y[c] += x[((long)a * width + b) * channels + c];
                }
            for (int c = 0; c < channels; ++c) y[c] /= (float)(size_y * size_x);
        }
}

//@ largest
static void largest(const float *x, float *y, int height, int width, int channels, int rows, int columns, int size_y,
                    int size_x, int stride, int padding) {
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j, y += channels) {
            int first = 1;
            for (int a = i * stride - padding; a < i * stride - padding + size_y; ++a)
                for (int b = j * stride - padding; b < j * stride - padding + size_x; ++b) {
                    if (a < 0 || a >= height || b < 0 || b >= width) continue;
                    for (int c = 0; c < channels; ++c) {
                        const float value = x[((long)a * width + b) * channels + c];
                        if (first || value > y[c]) y[c] = value;
                    }
                    first = 0;
                }
        }
}

//@ vote
/* Means of as many neighbours. */
static void vote(const float *x, float *y, int out, int votes) {
    for (int i = 0; i < out; ++i) {
        y[i] = 0.0f;
        for (int k = 0; k < votes; ++k) y[i] += *x++;
        y[i] /= (float)votes;
    }
}

//@ add
static void add(float *y, const float *x, int count) {
    for (int i = 0; i < count; ++i) y[i] += x[i];
}

//@ uniform
static uint32_t network_state = 2463534242u;

/* Where the draws of the input coding begin; not 0. */
void network_seed(uint32_t seed) { network_state = seed ? seed : 1u; }

/* A number in [0, 1) by Marsaglia's xorshift. */
static float uniform(void) {
    network_state ^= network_state << 13;
    network_state ^= network_state >> 17;
    network_state ^= network_state << 5;
    return (float)(network_state >> 8) / 16777216.0f;
}

//@ nearest
/* The whole number next to a number from 0 up; halves go to the even one. */
static int nearest(float value) {
    const int whole = (int)value;
    const float rest = value - (float)whole;
    return whole + (rest > 0.5f || (rest == 0.5f && whole % 2));
}

//@ predict
/* The class of an image of NETWORK_INPUTS values, in the order of the data set; scores are mean outputs. */
int network_predict(const network_input *image, float scores[NETWORK_CLASSES]);

int network_predict(const network_input *image, float scores[NETWORK_CLASSES]) {
    int best = 0;
@BEFORE@
    for (int t = 0; t < NETWORK_STEPS; ++t) {
@STEP@
        for (int i = 0; i < NETWORK_CLASSES; ++i) scores[i] = (t ? scores[i] : 0.0f) + @OUTPUT@[i];
@AFTER@
    }
    for (int i = 0; i < NETWORK_CLASSES; ++i) {
        scores[i] /= (float)NETWORK_STEPS;
        if (scores[i] > scores[best]) best = i;
    }
    return best;
}

//@ main
#ifdef NETWORK_MAIN
#include <stdio.h>

int main(int count, char **words) {
    static network_input image[NETWORK_INPUTS];
    float scores[NETWORK_CLASSES];
    const int all = count > 1 && !strcmp(words[1], "scores");
    size_t got;
    if (count > 1 && !strcmp(words[1], "size")) {
        printf("flash %ld bytes, RAM %ld bytes\n", NETWORK_FLASH_BYTES, NETWORK_RAM_BYTES);
        return 0;
    }
#ifdef NETWORK_COUNT
    if (count > 1 && !strcmp(words[1], "operations")) {
        while (fread(image, sizeof(network_input), NETWORK_INPUTS, stdin) == NETWORK_INPUTS) {
            network_operations = 0;
            network_predict(image, scores);
            printf("%llu\n", network_operations);
        }
        return 0;
    }
#endif
    if (count > 1 && !all) {
        fprintf(stderr, "'%s' is not known; use scores or size (operations: compile with -DNETWORK_COUNT), and give "
                        "images on standard input\n", words[1]);
        return 2;
    }
    while ((got = fread(image, sizeof(network_input), NETWORK_INPUTS, stdin)) == NETWORK_INPUTS) {
        printf("%d", network_predict(image, scores));
        if (all)
            for (int i = 0; i < NETWORK_CLASSES; ++i) printf(" %.9g", (double)scores[i]);
        printf("\n");
    }
    if (got) fprintf(stderr, "the last image ends after %ld of %d values\n", (long)got, NETWORK_INPUTS);
    return got ? 2 : 0;
}
#endif
