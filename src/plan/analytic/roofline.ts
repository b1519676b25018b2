/** @file Time of work on an accelerator: the roofline (Williams, Waterman and Patterson 2009) with what starting kernels costs. */
import type { Accelerator } from './accelerators.ts';
import { elementBytes, type Precision } from './precision.ts';
import type { PassWork } from './work.ts';

/**
 * ms of `work` on `samples` samples. Products take as long as their arithmetic or their memory traffic, whichever is longer, where weights are read once
 * whatever the number of samples; passes over memory and the start of kernels come on top.
 */
export function workMs(work: PassWork, samples: number, accelerator: Accelerator, precision: Precision = 'mixed'): number {
	const { efficiency: e, flops, memoryBandwidth } = accelerator;
	const peak = precision === 'mixed' ? flops.half : flops.single;
	const macs = work.convMacs / e.conv + work.matmulMacs / e.matmul + work.attentionMacs / e.attention;
	const compute = (2 * macs * samples) / peak;
	const perElement = elementBytes[precision].element / (memoryBandwidth * e.memory);
	const traffic = (work.productElements * samples + work.weightElements) * perElement;
	const passes = work.passElements * samples * perElement;
	return 1000 * (Math.max(compute, traffic) + passes) + work.kernels * e.kernelMs;
}
