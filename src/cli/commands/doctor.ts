/** @file `diffusionpipe doctor`: whether this machine has what is needed, and how fast it is. */
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';

const options = {} as const;

export const doctor = defineCommand({
	name: 'doctor',
	summary: 'Check this machine: Node, ONNX Runtime, data sets, speed, disk',
	usage: '',
	options,
	examples: [
		['doctor', 'checks everything; the exit code is 1 when something needed is missing'],
		['doctor --json', 'gives the same as JSON, to put into a report'],
	],
	run,
});

async function run({ options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	console.note('checking this machine');
	const { checks, runCheck } = await import('../doctor/index.ts');
	const { green, yellow, red } = console.printStyle;
	const mark = { ok: green('ok  '), warn: yellow('warn'), fail: red('fail') };
	const findings = [];
	for (const check of checks) {
		const finding = await runCheck(check, context);
		findings.push(finding);
		console.print(`${mark[finding.status]}  ${finding.name}: ${finding.text}`, ...(finding.hint ? [`      try: ${finding.hint}`] : []));
	}
	const failed = findings.filter((f) => f.status === 'fail').length;
	const warned = findings.filter((f) => f.status === 'warn').length;
	console.json({ ok: failed === 0, checks: findings });
	console.print(failed > 0 ? `${failed} failed` : warned > 0 ? 'everything needed is there; see the warnings' : 'everything is there');
	return failed > 0 ? 'failed' : 'done';
}
