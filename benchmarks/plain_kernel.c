/* RoI Align (average) and RoI Pool as one would write them for speed in C: maps packed with channels
 * last, so that a tap is a run of channels that the compiler makes vectors of, RoIs side by side. */
#include <float.h>
#include <math.h>
#include <string.h>

static int whole(float x) { return (int)roundf(x); }
static int at_least(int a, int b) { return a > b ? a : b; }
static int at_most(int a, int b) { return a < b ? a : b; }

/* map (C, H, W) to packed (H, W, C). */
void pack(const float *map, float *packed, int channels, int cells) {
#pragma omp parallel for
    for (int cell = 0; cell < cells; cell++)
        for (int c = 0; c < channels; c++)
            packed[(long)cell * channels + c] = map[(long)c * cells + cell];
}

static void put(const float *bins, float *out, int channels, int count) {
    for (int c = 0; c < channels; c++)
        for (int bin = 0; bin < count; bin++) out[c * count + bin] = bins[bin * channels + c];
}

/* corners (K, 4) in pixels; out (K, C, P, P); ratio 0 is adaptive; scratch (K, P, P, C). */
void align(const float *packed, const float *corners, float *out, float *scratch, int count,
           int channels, int height, int width, int p, float scale, int ratio) {
    long size = (long)channels * p * p;
#pragma omp parallel for schedule(dynamic, 4)
    for (int k = 0; k < count; k++) {
        const float *box = corners + 4 * k;
        float x1 = box[0] * scale - 0.5f, y1 = box[1] * scale - 0.5f;
        float bw = (box[2] - box[0]) * scale / p, bh = (box[3] - box[1]) * scale / p;
        int nx = ratio ? ratio : (int)ceilf(bw), ny = ratio ? ratio : (int)ceilf(bh);
        float *bins = scratch + k * size;
        memset(bins, 0, size * sizeof(float));
        for (int bin = 0; bin < p * p; bin++) {
            float *sum = bins + (long)bin * channels;
            for (int i = 0; i < ny; i++)
                for (int j = 0; j < nx; j++) {
                    float y = y1 + bh * (bin / p) + (i + 0.5f) * bh / ny;
                    float x = x1 + bw * (bin % p) + (j + 0.5f) * bw / nx;
                    if (y < -1 || y > height || x < -1 || x > width) continue;
                    y = fmaxf(y, 0), x = fmaxf(x, 0);
                    int low_y = at_most((int)y, height - 1), low_x = at_most((int)x, width - 1);
                    int high_y = at_most(low_y + 1, height - 1), high_x = at_most(low_x + 1, width - 1);
                    float fy = low_y == height - 1 ? 0 : y - low_y;
                    float fx = low_x == width - 1 ? 0 : x - low_x;
                    const float *a = packed + ((long)low_y * width + low_x) * channels;
                    const float *b = packed + ((long)low_y * width + high_x) * channels;
                    const float *c = packed + ((long)high_y * width + low_x) * channels;
                    const float *d = packed + ((long)high_y * width + high_x) * channels;
                    float wa = (1 - fy) * (1 - fx), wb = (1 - fy) * fx, wc = fy * (1 - fx), wd = fy * fx;
                    for (int n = 0; n < channels; n++)
                        sum[n] += wa * a[n] + wb * b[n] + wc * c[n] + wd * d[n];
                }
            float part = 1.0f / at_least(nx * ny, 1);
            for (int n = 0; n < channels; n++) sum[n] *= part;
        }
        put(bins, out + k * size, channels, p * p);
    }
}

/* The rounding of Caffe: corners to the nearest cell, both ends inside, bins that may overlap. */
void pool(const float *packed, const float *corners, float *out, float *scratch, int count,
          int channels, int height, int width, int p, float scale, int ratio) {
    long size = (long)channels * p * p;
    (void)ratio;
#pragma omp parallel for schedule(dynamic, 4)
    for (int k = 0; k < count; k++) {
        const float *box = corners + 4 * k;
        int x1 = whole(box[0] * scale), y1 = whole(box[1] * scale);
        float bw = (float)at_least(whole(box[2] * scale) - x1 + 1, 1) / p;
        float bh = (float)at_least(whole(box[3] * scale) - y1 + 1, 1) / p;
        float *bins = scratch + k * size;
        for (int bin = 0; bin < p * p; bin++) {
            float *most = bins + (long)bin * channels;
            int i = bin / p, j = bin % p;
            int top = at_least(at_most((int)floorf(i * bh) + y1, height), 0);
            int bottom = at_least(at_most((int)ceilf((i + 1) * bh) + y1, height), 0);
            int left = at_least(at_most((int)floorf(j * bw) + x1, width), 0);
            int right = at_least(at_most((int)ceilf((j + 1) * bw) + x1, width), 0);
            int is_empty = bottom <= top || right <= left;
            for (int n = 0; n < channels; n++) most[n] = is_empty ? 0 : -FLT_MAX;
            for (int y = top; y < bottom; y++)
                for (int x = left; x < right; x++) {
                    const float *cell = packed + ((long)y * width + x) * channels;
                    for (int n = 0; n < channels; n++) most[n] = cell[n] > most[n] ? cell[n] : most[n];
                }
        }
        put(bins, out + k * size, channels, p * p);
    }
}
