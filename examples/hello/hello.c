#include <stdio.h>

#include "words.h"

int main(void) {
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        printf("%s, world\n", words[i]);
    return 0;
}
