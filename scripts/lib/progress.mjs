/** @file Prints how a training goes: the mean loss of every hundred steps and the time, and at the end what it took. */

/** A function for `onStep`; its `summary()` says seconds and seconds of processor time since it was made. */
export function progress(steps, every = 100) {
	const began = performance.now();
	const usage = process.cpuUsage();
	const seconds = () => ((performance.now() - began) / 1000).toFixed(0);
	let sum = 0;
	const report = ({ step, loss, gradNorm }) => {
		sum += loss;
		if (step % every !== 0) return;
		console.log(`step ${step} of ${steps}: loss ${(sum / every).toFixed(4)}, gradient norm ${gradNorm.toFixed(3)}, ${seconds()} s`);
		sum = 0;
	};
	report.summary = () => {
		const { user, system } = process.cpuUsage(usage);
		return `trained in ${seconds()} s, ${((user + system) / 1e6).toFixed(0)} s of processor time`;
	};
	return report;
}
