// SPDX-FileCopyrightText: hyperscaler.images contributors
// SPDX-License-Identifier: GPL-3.0-or-later
// Plays NVIDIA's library for slurmd: three GPUs, of which the driver has lost those that /etc/lost-gpus names (one number a line).
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, GPU_IS_LOST = 15, GPUS = 3 };
typedef unsigned int number;
typedef void *device;

static int lost(number index) {
  FILE *file = fopen("/etc/lost-gpus", "r");
  number one;
  int found = 0;
  while (file && fscanf(file, "%u", &one) == 1)
    found |= one == index;
  if (file)
    fclose(file);
  return found;
}

static number index_of(device gpu) { return (number)(size_t)gpu - 1; }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "Not Supported"; }
int nvmlSystemGetDriverVersion(char *text, number size) { return snprintf(text, size, "550.163.01") < 0; }
int nvmlSystemGetNVMLVersion(char *text, number size) { return snprintf(text, size, "12.550.163.01") < 0; }

int nvmlDeviceGetCount_v2(number *count) {
  *count = GPUS;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(number index, device *gpu) {
  *gpu = (device)(size_t)(index + 1);
  return lost(index) ? GPU_IS_LOST : SUCCESS;
}

int nvmlDeviceGetName(device gpu, char *text, number size) { return snprintf(text, size, "NVIDIA H100 PCIe") < 0; }
int nvmlDeviceGetUUID(device gpu, char *text, number size) { return snprintf(text, size, "GPU-%u", index_of(gpu)) < 0; }

int nvmlDeviceGetMinorNumber(device gpu, number *minor) {
  *minor = index_of(gpu);
  return SUCCESS;
}

// The number of the bus is in the text before and in the structure behind it; the text is all that tells GPUs apart here.
int nvmlDeviceGetPciInfo_v3(device gpu, char *info) { return sprintf(info, "0000:0%u:00.0", index_of(gpu) + 1) < 0; }

// Slurm refuses a GPU that is next to a part of a socket only.
int nvmlDeviceGetCpuAffinity(device gpu, number size, unsigned long *set) {
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  memset(set, 0, size * sizeof *set);
  for (long one = 0; one < processors && one < (long)(size * 8 * sizeof *set); one++)
    set[one / (8 * sizeof *set)] |= 1UL << one % (8 * sizeof *set);
  return SUCCESS;
}

int nvmlDeviceGetNvLinkState(device gpu, number link, int *active) { return NOT_SUPPORTED; }
int nvmlDeviceGetMigMode(device gpu, number *current, number *pending) { return NOT_SUPPORTED; }
int nvmlDeviceGetSupportedMemoryClocks(device gpu, number *count, number *clocks) { return NOT_SUPPORTED; }

// The rest is asked of jobs and of MIG only, but must be there for the plugin to be loaded.
#define NOT_HERE(name) \
  int name(void) { return NOT_SUPPORTED; }
NOT_HERE(nvmlDeviceGetApplicationsClock)
NOT_HERE(nvmlDeviceGetAttributes_v2)
NOT_HERE(nvmlDeviceGetComputeInstanceId)
NOT_HERE(nvmlDeviceGetComputeRunningProcesses_v3)
NOT_HERE(nvmlDeviceGetGpuInstanceId)
NOT_HERE(nvmlDeviceGetGraphicsRunningProcesses_v3)
NOT_HERE(nvmlDeviceGetMaxMigDeviceCount)
NOT_HERE(nvmlDeviceGetMigDeviceHandleByIndex)
NOT_HERE(nvmlDeviceGetNvLinkRemotePciInfo_v2)
NOT_HERE(nvmlDeviceGetProcessUtilization)
NOT_HERE(nvmlDeviceGetSupportedGraphicsClocks)
NOT_HERE(nvmlDeviceResetApplicationsClocks)
NOT_HERE(nvmlDeviceSetApplicationsClocks)
