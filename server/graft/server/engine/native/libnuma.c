// Stands in for libnuma.so.1 where a system has none: vLLM's CPU library is linked against it and asks it where memory
// shall lie. The answer is libnuma's own on kernels without NUMA: numa_available() is -1, and nothing else is called
// (numa(3)). The other functions are here because the loader wants them.

#include <stddef.h>

struct bitmask;

int numa_available(void) { return -1; }
int numa_migrate_pages(int pid, struct bitmask* from, struct bitmask* to) { return -1; }
void numa_set_strict(int flag) {}

void numa_bitmask_free(struct bitmask* mask) {}
struct bitmask* numa_get_mems_allowed(void) { return NULL; }
struct bitmask* numa_parse_nodestring(const char* nodes) { return NULL; }
void numa_set_interleave_mask(struct bitmask* nodes) {}
void numa_set_membind(struct bitmask* nodes) {}
