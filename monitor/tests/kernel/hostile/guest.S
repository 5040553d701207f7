/* A library in which a thread waits for good. What its tables say of that function is up to who compiles it. */
#ifndef PROLOGUE
#define PROLOGUE
#endif
#ifndef NAME
#define NAME "guest_sleep"
#endif
#ifdef BARE
#define BEGIN
#define END
#else
#define BEGIN .cfi_startproc
#define END .cfi_endproc
#endif
    .text
    .globl guest_wait
    .type guest_wait, @function
guest_wait:
    BEGIN
    PROLOGUE
    jmp NAME
    END
    .size guest_wait, . - guest_wait

    .type NAME, @function
NAME:
    BEGIN
#ifdef TABLE
    TABLE
#endif
1:  mov $34, %eax               /* pause */
    syscall
    jmp 1b
    END
    .size NAME, . - NAME
    .section .note.GNU-stack, "", @progbits
