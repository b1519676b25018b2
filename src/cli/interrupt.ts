/** @file Ctrl-C and SIGTERM: the first asks for a good end, the second ends at once. */

/** The part of `process` that is used, so that a test can stand in for it. */
export interface SignalSource {
	on(event: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
	off(event: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
}

/** Watches for interrupts until disposed. */
export interface Interrupt {
	/** Aborted by the first interrupt, with the signal's name as reason. */
	readonly signal: AbortSignal;
	/** Makes the first interrupt show `text` and abort `signal`. Until this is called an interrupt ends the process at once. */
	finishOnInterrupt(text: string): void;
	dispose(): void;
}

/** Exit codes as shells give them: 128 + the number of the signal. */
export const signalCodes = { SIGINT: 130, SIGTERM: 143 } as const;

/** Exit code for the reason an interrupt gives its signal. */
export function interruptCode(reason: unknown): 130 | 143 {
	return reason === 'SIGTERM' ? signalCodes.SIGTERM : signalCodes.SIGINT;
}

/**
 * @param write shows a line to the user
 * @param exit ends the process at once
 */
export function watchInterrupts(source: SignalSource, write: (text: string) => void, exit: (code: number) => void): Interrupt {
	const controller = new AbortController();
	let finishing: string | undefined;
	const listen = (name: keyof typeof signalCodes) => {
		const listener = () => {
			if (finishing === undefined || controller.signal.aborted) {
				exit(signalCodes[name]);
				return;
			}
			write(`\n${finishing}; ${name === 'SIGINT' ? 'Ctrl-C' : 'the signal'} again stops at once\n`);
			controller.abort(name);
		};
		source.on(name, listener);
		return () => source.off(name, listener);
	};
	const undo = [listen('SIGINT'), listen('SIGTERM')];
	return {
		signal: controller.signal,
		finishOnInterrupt(text) {
			finishing = text;
		},
		dispose() {
			for (const stop of undo) stop();
		},
	};
}
