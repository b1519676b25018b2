/**
 * @file Accelerators by name: what makers publish of them, and the share of it that training reaches. Adding one is one entry; a plain object of your
 * own serves as well.
 */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import type { Link } from '../cluster/types.ts';

/** Shares of the published peaks that kernels reach, and what starting one costs. */
export interface Efficiency {
	/** Convolutions with windows larger than 1, matrix products and attention, of the peak rate. */
	readonly conv: number;
	readonly matmul: number;
	readonly attention: number;
	/** Of the memory's bandwidth. */
	readonly memory: number;
	/**
	 * ms that a kernel takes beside its work. Filling and draining the processors is in it, which is what makes small batches slow: a kernel that needs
	 * w at full rate takes w + kernelMs, and is half as fast where both are equal (Hockney's n_1/2).
	 */
	readonly kernelMs: number;
}

export interface Accelerator {
	readonly name: string;
	/** Multiplications and additions per second at most, dense: of 16-bit floats with sums in float32, and of float32 as training libraries run it. */
	readonly flops: { readonly half: number; readonly single: number };
	readonly memoryBytes: number;
	/** Bytes per second. */
	readonly memoryBandwidth: number;
	/** To another one in the same host, each way. */
	readonly link: Link;
	readonly efficiency: Efficiency;
}

/**
 * Fitted (`fitEfficiency`, memory's share held) to published times of Stable Diffusion 1.5 on one A100 under PyTorch 2 in half precision: sampling at 4
 * to 64 images (diffusers pull request 2764, scaled_dot_product_attention) and training a ControlNet at 8 and 32 (NVIDIA NeMo 24.12, flash attention,
 * channels last). test/plan/analytic/published.test.ts holds the figures and how far off they are. Others are taken to reach the same shares.
 */
export const measuredEfficiency: Efficiency = { conv: 0.285, matmul: 0.63, attention: 0.405, memory: 0.75, kernelMs: 0.017 };

const gigabytesPerSecond = 1e9 / 1e3;
/** One direction: half of what is advertised as the total of both. */
const nvlink = (gigabytes: number): Link => ({ latencyMs: 0.01, bytesPerMs: (gigabytes / 2) * gigabytesPerSecond });
/** PCI Express 4.0 with 16 lanes, through the host. */
const pcie4: Link = { latencyMs: 0.02, bytesPerMs: 31.5 * gigabytesPerSecond };

const accelerator = (name: string, half: number, single: number, gigabytes: number, bandwidth: number, link: Link): Accelerator => ({
	name,
	flops: { half: half * 1e12, single: single * 1e12 },
	memoryBytes: gigabytes * 1e9,
	memoryBandwidth: bandwidth * 1e9,
	link,
	efficiency: measuredEfficiency,
});

/** Peaks without sparsity from NVIDIA's data sheets of each; float32 is TF32 where there is such. */
export const accelerators: readonly Accelerator[] = [
	// A100 Tensor Core GPU, SXM.
	accelerator('A100-40', 312, 156, 40, 1555, nvlink(600)),
	accelerator('A100-80', 312, 156, 80, 2039, nvlink(600)),
	// H100 and H200 Tensor Core GPU, SXM.
	accelerator('H100', 989.4, 494.7, 80, 3350, nvlink(900)),
	accelerator('H200', 989.4, 494.7, 141, 4800, nvlink(900)),
	accelerator('L40', 181, 90.5, 48, 864, pcie4),
	// Ada architecture whitepaper: float16 with sums in float32.
	accelerator('RTX 4090', 165.2, 82.6, 24, 1008, pcie4),
	// Tesla V100, SXM2, 32 GB: no TF32 and no bfloat16.
	accelerator('V100', 125, 15.7, 32, 900, nvlink(300)),
];

/** The accelerator called `name`, letter case and spaces apart. Throws a usage error naming the nearest one. */
export function acceleratorByName(name: string): Accelerator {
	const plain = (text: string) => text.toLowerCase().replace(/[\s_-]/g, '');
	const found = accelerators.find((a) => plain(a.name) === plain(name));
	if (found) return found;
	const names = accelerators.map((a) => a.name);
	const near = nearestName(name, names);
	throw new DiffusionPipeError('usage', `accelerator ${name} is not known`, {
		place: 'accelerator',
		expected: names.join(', '),
		...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
	});
}
